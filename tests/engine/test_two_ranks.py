"""Training with two processes: equal to one process, resumable bit for bit, output of rank 0 only."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import interrupted, on_two_ranks, preempted
from torch import nn

import train
from data.sample import Batch, Placement
from engine import distributed
from engine.ema import build_ema
from engine.loop import Update, train_epoch
from engine.optim import Schedule, build_optimizer
from engine.runs.checkpoint import load_checkpoint
from engine.sync_batchnorm import SyncBatchNorm, sync_batchnorm
from engine.wrap import wrap
from models import create_model


class InFloat64(nn.Module):
    """A detector with BatchNorm over all ranks, in which no potential is within rounding of a threshold."""

    def __init__(self, name: str, **kwargs):
        super().__init__()
        torch.manual_seed(0)
        self.detector = create_model(name, num_classes=3, T=2, width=0.125, **kwargs).double()
        sync_batchnorm(self.detector)

    def forward(self, x, targets):
        return self.detector(x.double(), targets)


def images(chosen: slice) -> list[Batch]:
    """Five steps over four images, each with boxes of its own, one of them with none."""
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(5):
        x, targets = rng.random((4, 3, 64, 64), np.float32), []
        for count in rng.permutation(4):
            corners = rng.uniform(0, 40, (count, 2))
            boxes = np.concatenate([corners, corners + rng.uniform(8, 24, (count, 2))], 1).astype(np.float32)
            targets.append({"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(rng.integers(0, 3, count))})
        x, targets = torch.from_numpy(x)[chosen], targets[chosen]
        n = len(x)
        batches.append(Batch(x, targets, list(range(n)), [(64, 64)] * n, [Placement()] * n, 1.0, torch.ones(n) > 0))
    return batches


def five_steps(name: str, head: str, options: dict) -> tuple[dict, list, dict]:
    """(mean losses per image, losses of each step, weights after five steps) on this process's share of the images."""
    device = distributed.start("cpu")
    model = InFloat64(name, head=head)
    optimizer = build_optimizer(model, "sgd", 0.01, 0.9, 0.0)
    schedule, ema = Schedule(0.01, 1.0, 0.9, 10, 0, 0.0, 0.9), build_ema(model, 0.9, 1.0)
    trained, steps = wrap(model, device=device, **{"checkpoint": False, "compile": False} | options), []
    batches = images(slice(distributed.rank(), None, distributed.world_size()))
    losses = train_epoch(trained, batches, Update(optimizer, schedule, ema), device, on_step=steps.append)
    distributed.stop()
    return losses, [(step.losses, step.grad_norm) for step in steps], model.detector.state_dict()


@pytest.mark.parametrize(
    "name, head, options",
    [
        ("ems_resnet10_ee", "anchor", {}),
        ("spikeyolo_n", "dfl", {}),
        ("spikeyolo_n", "yolox", {}),
        ("ems_resnet10_ee", "anchor", {"checkpoint": True}),
    ],
)
def test_two_ranks_take_the_steps_of_one(name, head, options, tmp_path):
    """Losses, gradients, weights and BatchNorm statistics, with half of the batch on each rank."""
    losses, steps, weights = five_steps(name, head, options)
    (first, _), (second, _) = on_two_ranks(tmp_path, five_steps, name, head, options)
    close = partial(torch.testing.assert_close, rtol=1e-7, atol=1e-9)
    for of_rank in (first, second):
        close(of_rank[0], losses)
        close(of_rank[1], steps)
        close(of_rank[2], weights)
    before = InFloat64(name, head=head).detector.state_dict()
    assert sum(not torch.equal(before[key], weights[key]) for key in weights) > 50


def test_one_process_trains_the_same_with_statistics_over_all_ranks(tiny, monkeypatch):
    """Every BatchNorm is converted, keeps its names in the checkpoint, and computes the same alone."""
    plain = train.main([tiny, "train.epochs=1", "name=plain"])
    norms, forward = set(), SyncBatchNorm.forward
    monkeypatch.setattr(SyncBatchNorm, "forward", lambda self, x: norms.add(self) or forward(self, x))
    run = train.main([tiny, "train.epochs=1", "train.sync_batchnorm=true"])
    ours, theirs = (load_checkpoint(folder / "checkpoint_last.pt")["model"] for folder in (run, plain))
    assert list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert len(norms) == 2 * sum(key.endswith("running_mean") for key in ours)  # in training, and of the averages


def whole_and_interrupted(config: str) -> list[str]:
    """Trains one run of two epochs at a stretch, one that is interrupted within the second and resumed after the first,
    and one that a SIGTERM to the second rank ends within the second, where it is resumed."""
    # Workers of a loader that is left within an epoch must end, too, or this process never does.
    options = [config, "train.batch_size=2", "train.epochs=2", "data.workers=1", "--resume", "auto"]
    folders = [train.main([*options, "name=whole"])]
    steps = load_checkpoint(folders[0] / "checkpoint_last.pt")["steps_per_epoch"]
    with interrupted(steps + 1):
        train.main([*options, "name=parts"])
    print("resumed:")
    folders.append(train.main([*options, "name=parts"]))
    print("saved:")
    with preempted(steps + 1, rank=1):
        train.main([*options, "name=saved"])
    print("resumed:")
    return [str(folder) for folder in [*folders, train.main([*options, "name=saved"])]]


def test_a_run_resumed_under_two_ranks_equals_the_uninterrupted_one(tiny, tmp_path):
    (folders, said), (_, other) = on_two_ranks(tmp_path, whole_and_interrupted, tiny)
    whole, parts, saved = map(Path, folders)
    assert sorted((tmp_path / "runs").iterdir()) == [parts, saved, whole]
    records = [
        [json.loads(line) | {"seconds": 0, "peak_gib": 0} for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (whole, parts, saved)
    ]
    assert records[0] == records[1] == records[2] and len(records[0]) == 2 and records[0][0]["val/AP50"] >= 0
    a, b, c = (load_checkpoint(run / "checkpoint_last.pt") for run in (whole, parts, saved))
    for part in ("model", "ema"):
        assert all(torch.equal(a[part][key], b[part][key]) for key in a[part])
        assert all(torch.equal(a[part][key], c[part][key]) for key in a[part])

    before, after, within = said.split("resumed:")
    after = after.split("saved:")[0]
    assert "after epoch 1 and batch 1 of" in within
    assert "epoch 2/2" in before and "after epoch 1" in after and "epoch 1/2" not in after and "done" in after
    assert "epoch" not in other and "resuming" not in other
