"""Recordings in sequence: a training that is saved within an epoch continues with the membranes it had."""

import json

import pytest
import torch
from ranks import preempted

import train
from engine.runs.checkpoint import load_checkpoint

# States of neurons, of a recurrent cell, and of a teacher; gradients over two windows.
OPTIONS = ["data.args.sampling=sequential", "data.args.window_ms=100", "train.epochs=1", "optim.warmup_epochs=0"]
OPTIONS += ["model.args={width: 0.125, memory: gated}", "train.bptt=2", "train.batch_size=2"]


@pytest.fixture
def options(tiny, trained):
    return [tiny, *OPTIONS, f"train.distill={trained}"]


def records(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line | {"seconds": 0, "peak_gib": 0} for line in lines]


@pytest.mark.parametrize("workers", [0, 2])
def test_membranes_are_carried_over_a_resume(options, workers):
    whole = train.main([*options, "name=whole"])
    content = load_checkpoint(whole / "checkpoint_last.pt")
    assert content["steps_per_epoch"] > 3
    with preempted(2):
        train.main([*options, f"data.workers={workers}", "name=parts"])
    (folder,) = whole.parent.glob("parts")
    within = load_checkpoint(folder / "checkpoint_last.pt")
    assert within["batch"] == 4 and within["streams"].keys() == {"model", "teacher"}
    assert any(state["state"].abs().sum() > 0 for state in within["streams"]["teacher"][0])
    with pytest.raises(ValueError, match="in 2 rows. Until the epoch ends processes x train.batch_size must stay that"):
        train.main([*options, "name=parts", "--resume", str(folder), "train.batch_size=1", "train.accumulate=2"])
    train.main(["--resume", str(folder)])
    parts = load_checkpoint(folder / "checkpoint_last.pt")
    assert records(whole) == records(folder)
    for part in ("model", "ema"):
        assert all(torch.equal(content[part][key], parts[part][key]) for key in content[part])
