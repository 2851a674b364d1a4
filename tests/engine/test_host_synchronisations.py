"""A training step waits for the device once: for its losses, gradient norm and whether all is finite, together."""

import traceback
from collections import Counter

import pytest
import torch
from test_two_ranks import images
from torch.utils._python_dispatch import TorchDispatchMode

from engine import loop
from engine.ema import build_ema
from engine.optim import Schedule, build_optimizer
from models import create_model

aten = torch.ops.aten
WAITING = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2, aten.unique_dim}


def where() -> str:
    """The line of code that called, below this test."""
    frames = (frame for frame in reversed(traceback.extract_stack()[:-2]) if "/torch/" not in frame.filename)
    return next(f"{frame.filename}:{frame.lineno}" for frame in frames)


class Waits(TorchDispatchMode):
    """Counts the operations whose result, or its shape, a program must read from the device."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        by_mask = function.overloadpacket in (aten.index, aten.index_put_, aten._index_put_impl_) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_mask or function.overloadpacket in WAITING:
            self.seen[str(function), where()] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "name, head",
    [("ems_resnet10_ee", "anchor"), ("spikeyolo_n", "dfl"), ("spikeyolo_n", "yolox")],
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_one_for_each_step(name, head, accumulate, monkeypatch):
    read = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: read.append(1) or tolist(self))
    monkeypatch.setattr(torch.Tensor, "is_cpu", False)
    monkeypatch.setattr(loop, "_require_finite_boxes", lambda batch: None)  # of tensors that are not on the device yet
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, T=2, width=0.125, head=head)
    optimizer, schedule = build_optimizer(model, "sgd", 0.01, 0.9, 0.0), Schedule(0.01, 1.0, 0.9, 10, 0, 0.0, 0.9)
    update = loop.Update(optimizer, schedule, build_ema(model, 0.9, 1.0), accumulate, clip_norm=1.0)
    monkeypatch.setattr(update.ema, "update_parameters", lambda model: None)  # its counter is on the CPU
    steps = []
    with Waits() as waits:
        loop.train_epoch(model, images(slice(None))[:4], update, torch.device("cpu"), on_step=steps.append)
    assert len(steps) == 4 // accumulate == len(read) and not waits.seen
