"""Users see reasons, one line each, wherever in the program they arose."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine import distributed
from engine.config import load_config
from engine.errors import reason

ROOT = Path(__file__).parent.parent.parent


def test_the_way_through_a_loader_process_is_left_out():
    crossed = ValueError(
        "Caught ValueError in DataLoader worker process 1.\nTraceback ...\nValueError: a.jpg: broken\n"
    )
    assert reason(crossed) == "a.jpg: broken" and reason(ValueError("plain")) == "plain"


def test_a_damaged_picture_ends_a_training_in_one_line(tmp_path):
    from data.synthetic import generate_scenes

    root = generate_scenes(tmp_path / "s", train=2, val=1, test=1, seconds=0.5, width=96, height=64)
    for picture in (root / "images" / "train").glob("*.png"):
        picture.write_bytes(picture.read_bytes()[:200])
    command = [
        sys.executable, "train.py", "configs/demo_images.yaml", "data.name=coco", f"data.root={root}", "data.args={}",
        "train.batch_size=2", "train.epochs=1", "device=cpu", f"out={tmp_path / 'runs'}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and ".png" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


@pytest.mark.parametrize("override", ["seed=-1", "threads=0"])
def test_numbers_out_of_range_are_named(override):
    with pytest.raises(ValueError, match=override.split("=")[0]):
        load_config("configs/demo.yaml", [override])


def test_an_unknown_device_is_named():
    with pytest.raises(ValueError, match="'gpu'.*give auto, cpu or cuda"):
        distributed.start("gpu")
