"""evaluate.py on 1, 2 and 3 processes: the same detections bit for bit, the same metrics, for every option."""

import json
import os
import shutil

import pytest
from ranks import free_ports, on_ranks
from untrained import EVENTS, IMAGES, untrained_run

import evaluate

SEQUENTIAL = EVENTS % ", sampling: sequential, window_ms: 100"
# {name: (run, commands)}
RUNS = {
    "images": (
        {"data": IMAGES, "protocol": "coco"},
        {
            "all": ["--spikes", "--plots", "--pictures", "2"],
            "large": ["eval.batch_size=8", "--energy"],  # of 10 images: the third process has none
            "steps": ["--steps", "1,2", "--early-exit", "0.1", "--noise", "0.2"],
            "model": ["--weights", "model", "eval.T=1", "--allow-missing"],
        },
    ),
    "events": (
        {"data": SEQUENTIAL},
        {"all": ["--spikes", "--split", "val"], "history": ["--history", "1,3,all", "--split", "val"]},
    ),
    "binary": (
        {"data": IMAGES, "protocol": "coco", "model": "spikeyolo_n", "head": "dfl", "neuron": "ilif"},
        {"all": ["--binary", "--spikes"]},
    ),
}


def scored(run, commands, place, ports):
    for (name, command), port in zip(commands.items(), ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)  # process 0 still writes while others begin the next command
        command = [str(run / "checkpoint_best.pt"), "--pictures", "0", *command, "--out", str(run / place / name)]
        evaluate.main(command)
    return sorted(path.name for path in run.iterdir())


def plain(path):
    """The content of a json file, without what names the command."""
    content = json.loads(path.read_text())
    for key in ("provenance", "request") if isinstance(content, dict) else ():
        content.pop(key, None)
    return content


def same(one, other):
    """Equal; numbers, as firing rates are added up in another order, but for the last digits."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    else:
        assert one == (pytest.approx(other, rel=1e-12) if isinstance(one, float) else other)


@pytest.mark.parametrize("name", RUNS)
def test_the_number_of_processes_changes_nothing(name, scenes, tmp_path):
    options, commands = RUNS[name]
    run = untrained_run(tmp_path / "run", scenes, **options)
    scored(run, commands, "1", commands)
    for number in (2, 3):
        shutil.rmtree(run / "ranks", ignore_errors=True)
        (run / "ranks").mkdir()
        others = on_ranks(number, run / "ranks", scored, run, commands, str(number), free_ports(len(commands)))
        assert all(not said for _, said in others[1:])  # process 0 prints
        for command in commands:
            one, several = (run / place / command for place in ("1", str(number)))
            files = sorted(path.relative_to(one) for path in one.rglob("*"))
            assert files == sorted(path.relative_to(several) for path in several.rglob("*"))
            assert (one / "detections.json").read_bytes() == (several / "detections.json").read_bytes()
            assert len(plain(one / "detections.json")) > 20
            for file in files:
                if file.suffix == ".json" and file.name != "detections.json":
                    same(plain(one / file), plain(several / file))
