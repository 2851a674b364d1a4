"""The files that docs/extend.md and the pages it names show are found, keep the contracts, and train."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("registry", "neurons", "models", "data", "scoring", "engine", "analysis", "configs", "tests")
CONTRACTS = (
    "tests/neurons/test_neurons.py", "tests/neurons/test_stream.py", "tests/models/test_detectors.py",
    "tests/models/heads/test_dfl_head.py", "tests/data/test_every_dataset.py", "tests/data/representations",
)  # fmt: skip
FILES = [
    "neurons/alif.py", "neurons/sliding_psn.py", "models/families/my_model.py", "models/families/my_encoder.py",
    "models/heads/my_head.py", "data/images/my_csv.py", "data/representations/touched.py",
]  # fmt: skip
CSV = """
    def my_csv():
        Image.fromarray(np.zeros((480, 640, 3), np.uint8)).save(tmp_path / "a.png")
        (tmp_path / "train.csv").write_text("a.png,10,20,110,220\\na.png,300,100,400,200\\n")
        return {"root": tmp_path, "size": 64}

    return {
        "my_csv": my_csv,
"""
USE = """
import json
import numpy as np
from PIL import Image

import evaluate
import train
from data import create_dataset
from data.recordings import Events
from data.representations import build_representation

events = Events(t=np.array([1, 9]), x=np.array([0, 1]), y=np.array([0, 1]), p=np.array([0, 1]))
x = build_representation("touched", 2)(events, 0, 10, 2, 2)
assert x.tolist() == [[[[1, 0], [0, 0]]], [[[0, 0], [0, 1]]]]

def score(folder):
    return evaluate.main([str(folder / "checkpoint_last.pt"), "--spikes", "--protocol", "raw"])

def last(folder):
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])

tiny = "{train: 1, val: 1, test: 1, seconds: 0.5, width: 64, height: 64, train_label_hz: 8, workers: 1}"
short = ["data.size=[64, 64]", "data.workers=0", "train.epochs=1", "train.batch_size=1", "train.clip_norm=null",
         "device=cpu", "model.args={}"]
scenes = ["configs/demo.yaml", f"data.args.scenes={tiny}", "data.root=tiny", *short]
own = ["model.name=my_model", "model.head=my_head"]

# Backbone, head, representation and neuron: train, evaluate, and the same in sequence.
whole = train.main([*scenes, *own, "model.neuron={name: alif, v_threshold: 0.7}", "data.args.representation=touched"])
assert last(whole)["loss/box"] > 0 and last(whole)["loss/class"] > 0 and last(whole)["val/protocol"] == "prophesee"
assert score(whole)["firing_rates"].keys() == {"network.neurons.0", "network.neurons.1"}
streamed = train.main([*scenes, *own, "name=streamed", "model.neuron=alif", "data.args.sampling=sequential",
                      "model.args={readout: learned}"])
assert score(streamed)["neuron"] == "alif"

# A neuron of all steps at once, in a published network.
train.main([*scenes, "name=graft", "model.name=ems_resnet10_ee", "model.args={width: 0.125}",
            "model.neuron=sliding_psn"])

# Dataset and encoder.
Image.fromarray(np.zeros((480, 640, 3), np.uint8)).save("a.png")
for split in ("train", "val", "test"):
    open(f"{split}.csv", "w").write("a.png,10,20,110,220\\na.png,300,100,400,200\\n")
data = create_dataset("my_csv", "train", root=".", size=320)
assert len(data) == 1 and data[0].boxes.tolist()[0] == [5, 50, 55, 150]
images = ["configs/demo_images.yaml", *short, "name=images", "data.name=my_csv", "data.root=.", "data.args={}",
          "data.augment={}", "model.name=my_phase_model", "model.T=8"]
coded = train.main([*images, "model.head=my_head"])
assert last(coded)["loss/box"] > 0 and score(coded)["model"] == "my_phase_model"

for override, words in (
    (["model.neuron=sliding_psn", "data.args.sampling=sequential"], "derive it from neurons.StepNeuron"),
    (["data.args.representation=micro_bins"], "micro-bins"),
):
    try:
        train.main([*scenes, *own, *override])
    except ValueError as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"{override} trained")
print("all there")
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the project with every new file of the docs in its place."""
    folder = tmp_path_factory.mktemp("extended")
    for room in ROOMS:
        ignored = shutil.ignore_patterns("__pycache__", "golden")
        shutil.copytree(ROOT / room, folder / room, ignore=ignored)
    for name in ("train.py", "evaluate.py", "setup.cfg", "docs"):
        (folder / name).symlink_to(ROOT / name)
    page = (ROOT / "docs" / "extend.md").read_text()
    files = dict(re.findall(r"^## [^\n]*: `(\S+)`\n\n```python\n(.*?)^```", page, re.S | re.M))
    assert list(files) == FILES
    for name, text in files.items():
        (folder / name).write_text(text)
    examples = folder / "tests" / "data" / "test_every_dataset.py"
    text = examples.read_text().replace("import torch\n", "import torch\nfrom PIL import Image\n", 1)
    examples.write_text(text.replace("\n    return {\n", CSV, 1))
    return folder


def run(folder: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_own_parts_keep_the_contracts(extended):
    """Each passes the tests of its kind, and none is skipped."""
    out = run(extended, "-m", "pytest", "-vv", "-rs", "-k", "my_ or touched or alif or sliding_psn", *CONTRACTS)
    for what in ("alif", "sliding_psn", "my_model", "my_phase_model", "my_head", "my_csv", "touched"):
        assert len(re.findall(rf"\[[^]\n]*{what}[^]\n]*\] PASSED", out)) >= 5, what
    assert " SKIPPED" not in out


def test_own_parts_train(extended):
    (extended / "use.py").write_text(USE)
    assert "all there" in run(extended, "use.py")
