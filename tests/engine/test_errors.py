"""User errors print as one line with the reason, also those from loader processes."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data.scenes import generate_scenes
from engine import distributed
from engine.config import load_config
from engine.errors import reason, remedies
from neurons import MultiStepNeuron
from neurons.registry import NEURONS
from registry import UserError

ROOT = Path(__file__).parent.parent.parent


def test_the_way_through_a_loader_process_is_left_out():
    crossed = ValueError(
        "Caught ValueError in DataLoader worker process 1.\nTraceback ...\nValueError: a.jpg: broken\n"
    )
    assert reason(crossed) == "a.jpg: broken" and reason(ValueError("plain")) == "plain"


def test_a_damaged_image_ends_a_training_in_one_line(command, tmp_path):
    root = generate_scenes(tmp_path / "s", train=2, val=1, test=1, seconds=0.5, width=96, height=64)
    for image in (root / "images" / "train").glob("*.png"):
        image.write_bytes(image.read_bytes()[:200])
    done = command(
        "train.py", "configs/demo_images.yaml", "data.name=coco", f"data.root={root}", "data.args={}",
        "train.batch_size=2", "train.epochs=1", "device=cpu", f"out={tmp_path / 'runs'}",
    )  # fmt: skip
    assert done.returncode == 1 and ".png" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


@pytest.mark.parametrize("override", ["seed=-1", "threads=0"])
def test_numbers_out_of_range_are_named(override):
    with pytest.raises(ValueError, match=override.split("=")[0]):
        load_config("configs/demo.yaml", [override])


def test_an_unknown_device_is_named():
    with pytest.raises(ValueError, match="'gpu'.*give auto, cpu or cuda"):
        distributed.start("gpu")


def test_one_value_per_channel_names_the_keys_that_help():
    norm = torch.nn.BatchNorm2d(3)
    with remedies():
        norm(torch.rand(2, 3, 1, 1))
    with pytest.raises(ValueError, match=r"\[1, 3, 1, 1\].*train.batch_size.*data.size"), remedies():
        norm(torch.rand(1, 3, 1, 1))
    with pytest.raises(ValueError, match="^another$"), remedies():
        raise ValueError("another")


BEGINS_WITH = {"train.py": "engine.training.run.load_config", "evaluate.py": "engine.evaluations.checkpoint.open_run"}


@pytest.mark.parametrize("script", BEGINS_WITH)
def test_ctrl_c_is_one_line(command, script, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(BEGINS_WITH[script], interrupted)
    done = command(script, "x.pt")
    assert done.returncode == 1 and done.stderr.startswith("interrupted") and done.stderr.count("\n") == 1


def test_a_missing_gpu_is_not_warned_of(tmp_path):
    """Where CUDA's compiler is installed, torch's C++ builder, with which neurons are compiled, warns at its import."""
    code = "import neurons, torch.utils.cpp_extension, logging\n"
    code += "logging.getLogger('torch.utils.cpp_extension').warning('x')"
    environment = os.environ | {"CUDA_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "No CUDA runtime" not in done.stderr and "x" in done.stderr


class Faulty(MultiStepNeuron):
    def __init__(self, in_init: bool = False):
        super().__init__()
        if in_init:
            int("boom")

    def steps(self, x_seq):
        return x_seq * int("boom")


@pytest.mark.parametrize("neuron", ["faulty", "{name: faulty, in_init: true}"])
def test_an_error_of_the_users_own_part_keeps_its_traceback(command, tiny, neuron, monkeypatch):
    monkeypatch.setitem(NEURONS._parts, "faulty", Faulty)
    with pytest.raises(ValueError, match="invalid literal for int.*boom") as raised:
        command("train.py", tiny, f"model.neuron={neuron}", "train.epochs=1")
    assert not isinstance(raised.value, UserError)
    assert any(Path(entry.path) == Path(__file__) and entry.name in ("steps", "__init__") for entry in raised.traceback)


def test_the_message_of_a_user_error_is_found_behind_a_workers_traceback():
    crossed = UserError("Caught UserError in DataLoader worker process 0.\nregistry.errors.UserError: a.jpg: broken\n")
    assert reason(crossed) == "a.jpg: broken"


def test_bad_input_is_nowhere_a_plain_value_error():
    """Commands print a UserError as one line; a plain ValueError would end them in a traceback. A name registered twice
    is a mistake in the code of a part."""
    rooms = ("models", "data", "scoring", "analysis", "engine", "tools", "neurons")
    files = [*(f for room in rooms for f in (ROOT / room).rglob("*.py")), *ROOT.glob("*.py")]
    calls = [(f, n) for f in files for n in ast.walk(ast.parse(f.read_text())) if isinstance(n, ast.Call)]
    assert [f"{f}:{n.lineno}" for f, n in calls if getattr(n.func, "id", "") == "ValueError"] == []
