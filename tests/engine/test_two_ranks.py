"""Training with two processes: equal to one process, resumable bit for bit, output of rank 0 only."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import interrupted, on_two_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import train
from data.sample import Batch, Placement
from engine import distributed
from engine.ema import build_ema
from engine.loop import Update, train_epoch
from engine.optim import Schedule, build_optimizer
from engine.runs.checkpoint import load_checkpoint
from models import create_model


class InFloat64(nn.Module):
    """A detector in which no potential is within rounding of a threshold, its BatchNorms in evaluation."""

    def __init__(self, name: str, **kwargs):
        super().__init__()
        torch.manual_seed(0)
        self.detector = create_model(name, num_classes=3, T=2, width=0.125, **kwargs).double()
        for m in self.detector.modules():
            if isinstance(m, nn.BatchNorm2d):
                nn.init.uniform_(m.weight, 0.6, 1.6)
                nn.init.uniform_(m.bias, -0.2, 0.5)

    def forward(self, x, targets):
        for m in self.detector.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.eval()
        return self.detector(x.double(), targets)


def images(chosen: slice) -> list[Batch]:
    """Two steps over four images, all with the same boxes, so that every half of them matches as many anchors."""
    rng = np.random.default_rng(0)
    target = {"boxes": torch.tensor([[4.0, 6.0, 40.0, 50.0], [30.0, 10.0, 60.0, 30.0]]), "labels": torch.tensor([0, 2])}
    batches = []
    for _ in range(2):
        x = torch.from_numpy(rng.random((4, 3, 64, 64), np.float32))[chosen]
        n = len(x)
        batches.append(
            Batch(x, [target] * n, list(range(n)), [(64, 64)] * n, [Placement()] * n, 1.0, torch.ones(n) > 0)
        )
    return batches


def two_steps(name: str, head: str) -> tuple[dict, dict]:
    """(mean losses per image, weights after two steps) on this process's share of the images."""
    device = distributed.start("cpu")
    model = InFloat64(name, head=head)
    optimizer = build_optimizer(model, "sgd", 0.01, 0.9, 0.0)
    schedule, ema = Schedule(0.01, 1.0, 0.9, 10, 0, 0.0, 0.9), build_ema(model, 0.9, 1.0)
    ranks = distributed.world_size()
    trained = DistributedDataParallel(model) if ranks > 1 else model
    batches = images(slice(distributed.rank(), None, ranks))
    losses = train_epoch(trained, batches, Update(optimizer, schedule, ema), device)
    distributed.stop()
    return losses, model.detector.state_dict()


@pytest.mark.parametrize(
    "name, head", [("ems_resnet10_ee", "anchor"), ("spikeyolo_n", "dfl"), ("spikeyolo_n", "yolox")]
)
def test_two_ranks_take_the_steps_of_one(name, head, tmp_path):
    losses, weights = two_steps(name, head)
    (first, _), (second, _) = on_two_ranks(tmp_path, two_steps, name, head)
    for key, loss in losses.items():
        assert (first[0][key] + second[0][key]) / 2 == pytest.approx(loss, rel=1e-9)
    before = InFloat64(name, head=head).detector.state_dict()
    assert sum(not torch.equal(before[key], weights[key]) for key in weights) > 50
    for key, weight in weights.items():
        assert torch.equal(first[1][key], second[1][key]), key
        torch.testing.assert_close(first[1][key], weight, rtol=1e-9, atol=1e-11, msg=lambda m, key=key: f"{key}: {m}")


def refusal(config: str) -> str:
    with pytest.raises(ValueError) as caught:
        train.main([config, "train.sync_batchnorm=true"])
    return str(caught.value)


def test_statistics_over_all_ranks_need_gpus(tiny, tmp_path):
    for said, _ in on_two_ranks(tmp_path, refusal, tiny):
        assert said.startswith("train.sync_batchnorm = true: torch exchanges BatchNorm statistics between GPUs only")
    assert not (tmp_path / "runs").exists()


def test_one_process_trains_the_same_with_statistics_over_all_ranks(tiny, monkeypatch):
    """Every BatchNorm is converted, keeps its names in the checkpoint, and computes the same alone."""
    plain = train.main([tiny, "train.epochs=1", "name=plain"])
    norms, forward = set(), nn.SyncBatchNorm.forward
    monkeypatch.setattr(nn.SyncBatchNorm, "forward", lambda self, x: norms.add(self) or forward(self, x))
    monkeypatch.setattr(nn.BatchNorm2d, "forward", None)
    run = train.main([tiny, "train.epochs=1", "train.sync_batchnorm=true"])
    ours, theirs = (load_checkpoint(folder / "checkpoint_last.pt")["model"] for folder in (run, plain))
    assert list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert len(norms) == 2 * sum(key.endswith("running_mean") for key in ours)  # in training, and of the averages


def whole_and_interrupted(config: str) -> list[str]:
    """Trains one run of two epochs at a stretch, and one that is interrupted within the second and resumed."""
    options = [config, "train.batch_size=2", "train.epochs=2", "--resume", "auto"]
    folders = [train.main([*options, "name=whole"])]
    steps = load_checkpoint(folders[0] / "checkpoint_last.pt")["steps_per_epoch"]
    with interrupted(steps + 1):
        train.main([*options, "name=parts"])
    print("resumed:")
    return [str(folder) for folder in [*folders, train.main([*options, "name=parts"])]]


def test_a_run_resumed_under_two_ranks_equals_the_uninterrupted_one(tiny, tmp_path):
    (folders, said), (_, other) = on_two_ranks(tmp_path, whole_and_interrupted, tiny)
    whole, parts = map(Path, folders)
    assert sorted((tmp_path / "runs").iterdir()) == [parts, whole]
    records = [
        [json.loads(line) | {"seconds": 0, "peak_gib": 0} for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (whole, parts)
    ]
    assert records[0] == records[1] and len(records[0]) == 2 and records[0][0]["val/AP50"] >= 0
    a, b = (load_checkpoint(run / "checkpoint_last.pt") for run in (whole, parts))
    for part in ("model", "ema"):
        assert all(torch.equal(a[part][key], b[part][key]) for key in a[part])

    before, after = said.split("resumed:")
    assert "epoch 2/2" in before and "after epoch 1" in after and "epoch 1/2" not in after and "done" in after
    assert "epoch" not in other and "resuming" not in other
