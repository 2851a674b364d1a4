"""The two loops: one epoch of training, one pass of evaluation. They take parts and keep nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from neurons import Stream

from .distributed import world_size
from .optim import Schedule

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    if precision not in PRECISIONS:
        raise ValueError(f"train.precision must be one of {list(PRECISIONS)}, got {precision!r}")
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@dataclass
class Step:
    """What one optimizer step reports."""

    step: int
    losses: dict[str, float]  # per picture
    lr: float
    grad_norm: float
    step_time: float  # seconds, data included
    data_time: float  # seconds spent waiting for the loader


def train_epoch(
    model: nn.Module,
    batches: Iterable,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    ema: AveragedModel,
    device: torch.device,
    first_step: int,
    accumulate: int = 1,
    precision: str = "fp32",
    clip_norm: float | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
    stream: Stream | None = None,
) -> dict[str, float]:
    """Train `model` on all `batches`; returns the mean of each loss per picture.

    stream: of `model`, for samples that come in sequence: each row of a batch goes on from the membranes of that row of
    the batch before, but where `batch.starts`. Its gradients end at the batch: truncated BPTT.

    A model's losses are sums over its pictures, so gradients of accumulated batches and of several processes add up
    (DDP averages them, which is undone here). The batches left over at the end make a smaller last step. A loss or
    gradient that is not finite raises before the weights change.
    """
    model.train()
    sums: dict[str, float] = {}
    pictures, step = 0, first_step
    started = time.perf_counter()
    for group, data_time in _groups(batches, accumulate):
        lr = schedule.apply(optimizer, step)
        optimizer.zero_grad(set_to_none=True)
        summed: dict[str, torch.Tensor | float] = {}
        count = 0
        for i, batch in enumerate(group):
            sums_later = isinstance(model, DistributedDataParallel) and i < len(group) - 1
            with model.no_sync() if sums_later else nullcontext():  # type: ignore[operator]
                x, targets = batch.to(device)
                if stream is not None and batch.starts.any():  # else every membrane would be copied for nothing
                    stream.reset(batch.starts)
                with autocast(device, precision):
                    parts = model(x, targets)
                total = torch.stack(list(parts.values())).sum()
                (total * world_size()).backward()
            for key, value in parts.items():
                summed[key] = summed.get(key, 0.0) + value.detach()
            count += sum(target is not None for target in targets)
        count = max(count, 1)  # a step may have no label at all
        losses = {key: float(value) for key, value in summed.items()}
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        grad_norm = float(norm)
        _require_finite(model, losses, grad_norm, step)
        if clip_norm is not None:
            nn.utils.clip_grads_with_norm_(model.parameters(), clip_norm, norm)
        optimizer.step()
        ema.update_parameters(getattr(model, "module", model))
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + value
        pictures += count
        now = time.perf_counter()
        on_step(Step(step, {k: v / count for k, v in losses.items()}, lr, grad_norm, now - started, data_time))
        started = now
        step += 1
    return {key: value / pictures for key, value in sums.items()}


def stream_of(model: nn.Module, batches: DataLoader) -> AbstractContextManager[Stream | None]:
    """A `Stream` of `model` where the loader's samples come in sequence; else none."""
    sequential = batches.dataset.sequences is not None  # type: ignore[attr-defined]
    return Stream(model) if sequential else nullcontext()


@torch.inference_mode()
def evaluate_epoch(
    model: nn.Module,
    batches: Iterable,
    evaluator,
    device: torch.device,
    precision: str = "fp32",
    stream: Stream | None = None,
) -> None:
    """Run `model` over all `batches` and hand its detections to `evaluator.add(outputs, batch)`.

    stream: of `model`, for samples that come in sequence, as in `train_epoch`.
    """
    model.eval()
    for batch in batches:
        x, targets = batch.to(device)
        if stream is not None and batch.starts.any():
            stream.reset(batch.starts)
        with autocast(device, precision):
            outputs = model(x) if stream is None else model(x, targets)
        evaluator.add([{k: v.cpu() for k, v in output.items()} for output in outputs], batch)


def _groups(batches: Iterable, size: int):
    """Lists of `size` batches (the last may be shorter), each with the seconds spent waiting for it."""
    iterator = iter(batches)
    while True:
        started = time.perf_counter()
        group = [batch for _, batch in zip(range(size), iterator, strict=False)]
        if not group:
            return
        yield group, time.perf_counter() - started


def _require_finite(model: nn.Module, losses: dict[str, float], grad_norm: float, step: int) -> None:
    if all(math.isfinite(v) for v in [*losses.values(), grad_norm]):
        return
    bad = [k for k, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    raise FloatingPointError(
        f"step {step}: losses {losses}, gradient norm {grad_norm}; the weights were not changed. "
        f"First non-finite gradients: {bad[:3] or 'none'}. Lower optim.lr, set train.clip_norm, or check the data with "
        "python -m data.check"
    )
