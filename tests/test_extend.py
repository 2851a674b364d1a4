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
USE = """
import json
import numpy as np
from PIL import Image

import evaluate
import train
from data import create_dataset

Image.fromarray(np.zeros((480, 640, 3), np.uint8)).save("a.png")
open("train.csv", "w").write("a.png,10,20,110,220\\na.png,300,100,400,200\\n")
data = create_dataset("my_csv", "train", root=".", size=320)
assert len(data) == 1 and data[0].boxes.tolist()[0] == [5, 50, 55, 150]

tiny = "{train: 1, val: 1, test: 1, seconds: 0.5, width: 64, height: 64, train_label_hz: 8, workers: 1}"
common = ["configs/demo.yaml", f"data.args.scenes={tiny}", "data.root=tiny", "data.size=[64, 64]", "data.workers=0",
          "train.epochs=1", "train.batch_size=1", "device=cpu", "train.clip_norm=null", "model.args={}"]
own = ["model.name=my_model", "model.head=my_head"]
folder = train.main([*common, *own, "model.neuron={name: alif, v_threshold: 0.7}",
                     "data.args.representation=touched"])
record = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
assert record["loss/box"] > 0 and record["loss/class"] > 0 and record["val/protocol"] == "prophesee", record
evaluate.main([str(folder / "checkpoint_last.pt"), "--spikes", "--protocol", "raw"])
streamed = train.main([*common, *own, "name=streamed", "model.neuron=alif", "data.args.sampling=sequential"])
assert evaluate.main([str(streamed / "checkpoint_last.pt"), "--protocol", "raw"])["neuron"] == "alif"
train.main([*common, "name=graft", "model.name=ems_resnet10_ee", "model.args={width: 0.125}",
            "model.neuron=sliding_psn"])
for override, words in (
    (["model.neuron=sliding_psn", "data.args.sampling=sequential"], "derive it from neurons.StepNeuron"),
    (["data.args.representation=micro_bins"], "micro-bins"),
):
    try:
        train.main([*common, *own, *override])
    except ValueError as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"{override} trained")
print("all there")
"""


def code_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.S | re.M)


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
    assert list(files) == [
        "neurons/alif.py",
        "neurons/sliding_psn.py",
        "models/my_model.py",
        "models/my_encoder.py",
        "models/heads/my_head.py",
    ]
    files["data/my_csv.py"] = code_blocks("data.md")[-1]
    files["data/representations/touched.py"] = code_blocks("representations.md")[-1]
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def run(folder: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_own_parts_keep_the_contracts(extended):
    """A dataset without an example is skipped, with the reason; nothing else is."""
    out = run(extended, "-m", "pytest", "-vv", "-rs", "-k", "my_ or touched or alif or sliding_psn", *CONTRACTS)
    for what in ("alif", "sliding_psn", "my_model", "my_latency_model", "my_head", "touched"):
        assert len(re.findall(rf"\[[^]\n]*{what}[^]\n]*\] PASSED", out)) > 5, what
    assert len(re.findall(r" SKIPPED", out)) == len(re.findall(r"test_every_dataset.*\[my_csv\] SKIPPED", out)) == 5
    assert "add one that returns the arguments of a tiny folder" in " ".join(out.split())


def test_own_parts_train(extended):
    (extended / "use.py").write_text(USE)
    assert "all there" in run(extended, "use.py")
