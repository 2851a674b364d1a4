"""Train one epoch: accumulate gradients, step, update the EMA, stop at non-finite values."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from data.sample import Batch
from neurons import Stream
from registry import UserError

from .distributed import world_size
from .optim import Schedule

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    if precision not in PRECISIONS:
        raise UserError(f"train.precision must be one of {list(PRECISIONS)}, got {precision!r}")
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@dataclass
class Step:
    """What one optimizer step reports."""

    step: int
    losses: dict[str, float]  # per image
    lr: float
    grad_norm: float
    step_time: float  # seconds, data included
    data_time: float  # seconds spent waiting for the loader


@dataclass
class Update:
    """Optimizer, schedule, EMA, and how gradients are accumulated and clipped.

    accumulate: backward passes whose gradients are added for one step of `optimizer`.
    bptt: batches in sequence whose losses are added for one backward pass; above 1 in a `Stream` only.
    clip_norm: largest norm of all gradients together; None: no clipping.
    ema: the averaged weights, updated at each step.
    """

    optimizer: torch.optim.Optimizer
    schedule: Schedule
    ema: AveragedModel
    accumulate: int = 1
    clip_norm: float | None = None
    bptt: int = 1

    @property
    def batches(self) -> int:
        """Batches of one step of the optimizer; the last step of an epoch may have fewer."""
        return self.accumulate * self.bptt


@dataclass
class Running:
    """What this process has trained of an epoch: batches, labelled images, and the sum of each loss over these."""

    batches: int = 0
    images: int = 0
    losses: dict[str, float] = field(default_factory=dict)


def train_epoch(
    model: nn.Module,
    batches: Iterable,
    update: Update,
    device: torch.device,
    *,
    precision: str = "fp32",
    first_step: int = 0,
    running: Running | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
    stream: Stream | None = None,
    more_losses: Callable[[torch.Tensor, Batch], dict[str, torch.Tensor]] | None = None,
) -> dict[str, float]:
    """Train `model` on all `batches`; returns the mean of each loss per image, with what is in `running` already.

    running: brought up to date before each call of `on_step`; to continue an epoch within it, as it was there.
    stream: the `Stream` of `model` for stateful training: each batch row continues from the membranes of the same row
        in the batch before, except rows in `batch.starts`. Truncated BPTT (Williams and Peng, 1990): the losses of
        `update.bptt` batches are added and sent backward together, through the states carried between them; gradients
        stop where a row starts and before the first of these batches. `stream_of(model, loader, update.bptt)` makes it.
    more_losses: a function of (x, batch), called after the model: losses to be added to its own (`distill`).

    Losses are sums over images, so the gradients of accumulated batches and of several processes are added (DDP
    averages them; the factor `world_size()` undoes that), and equal those of one large batch. Heads that normalise by
    the content of a batch document the difference. The last step of an epoch may have fewer batches.

    FloatingPointError for a loss, gradient or buffer that is not finite: the step is not taken, and weights, averages
    and BatchNorm statistics are those of the step before. ValueError for a target box that is not finite.
    """
    model.train()
    buffers = {name: b for name, b in model.named_buffers() if b.is_floating_point()}
    before = [torch.empty_like(b) for b in buffers.values()]
    running = Running() if running is None else running
    step = first_step
    started = time.perf_counter()
    assert update.bptt == 1 or stream is not None
    for group, data_time in _groups(batches, update.batches):
        lr = update.schedule.apply(update.optimizer, step)
        update.optimizer.zero_grad(set_to_none=True)
        if buffers:
            torch._foreach_copy_(before, list(buffers.values()))
        summed: dict[str, torch.Tensor | float] = {}
        unrolled: torch.Tensor | float = 0.0  # losses that have not been sent backward
        count = 0
        for i, batch in enumerate(group):
            last = i == len(group) - 1
            sums_later = isinstance(model, DistributedDataParallel) and not last
            # Gradients are exchanged once, in the backward pass of the last batch.
            with model.no_sync() if sums_later else nullcontext():  # type: ignore[operator]
                _require_finite_boxes(batch)
                x, targets = batch.to(device)
                # Skip the reset, a copy of every membrane, where no row starts.
                if stream is not None and batch.starts.any():
                    stream.reset(batch.starts)
                with autocast(device, precision):
                    parts = model(x, targets)
                    if more_losses is not None:
                        parts = parts | more_losses(x, batch)
                unrolled = unrolled + torch.stack(list(parts.values())).sum()
                if last or (i + 1) % update.bptt == 0:
                    (unrolled * world_size()).backward()
                    unrolled = 0.0
                    if stream is not None and update.bptt > 1:
                        stream.detach()
            for key, value in parts.items():
                summed[key] = summed.get(key, 0.0) + value.detach()
            count += sum(target is not None for target in targets)
        count = max(count, 1)  # a step may have no label at all
        losses = {key: float(value) for key, value in summed.items()}
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        peak = nn.utils.get_total_norm(list(buffers.values()), math.inf)
        grad_norm, buffer_peak = torch.stack([norm.to(device).float(), peak.to(device).float()]).tolist()
        if not all(map(math.isfinite, (*losses.values(), grad_norm, buffer_peak))):
            message = _not_finite(model, buffers, losses, grad_norm, step, group)
            if buffers:
                torch._foreach_copy_(list(buffers.values()), before)
            raise FloatingPointError(message)
        if update.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(model.parameters(), update.clip_norm, norm)
        update.optimizer.step()
        update.ema.update_parameters(getattr(model, "module", model))
        for key, value in losses.items():
            running.losses[key] = running.losses.get(key, 0.0) + value
        running.images += count
        running.batches += len(group)
        now = time.perf_counter()
        on_step(Step(step, {k: v / count for k, v in losses.items()}, lr, grad_norm, now - started, data_time))
        started = now
        step += 1
    return {key: value / running.images for key, value in running.losses.items()}


def stream_of(model: nn.Module, batches: DataLoader, bptt: int = 1) -> AbstractContextManager[Stream | None]:
    """A `Stream` of `model` if the loader's dataset is sequential, else a context of None. bptt: see `Update`."""
    sequential = batches.dataset.sequences is not None  # type: ignore[attr-defined]
    return Stream(model, detach=bptt == 1) if sequential else nullcontext()


def _groups(batches: Iterable, size: int):
    """Lists of `size` batches (the last may be shorter), each with the seconds spent waiting for it."""
    iterator = iter(batches)
    while True:
        started = time.perf_counter()
        group = [batch for _, batch in zip(range(size), iterator, strict=False)]
        if not group:
            return
        yield group, time.perf_counter() - started


def _require_finite_boxes(batch: Batch) -> None:
    """On the CPU, before the targets are copied: no synchronisation with the GPU."""
    boxes = [target["boxes"] for target in batch.targets if target]
    if boxes and not torch.cat(boxes).isfinite().all():
        bad = [
            i
            for i, target in zip(batch.image_ids, batch.targets, strict=True)
            if target and not target["boxes"].isfinite().all()
        ]
        raise UserError(f"image {bad[0]}: a target box is not finite; check the labels with python -m data.check")


def _not_finite(
    model: nn.Module,
    buffers: dict[str, torch.Tensor],
    losses: dict[str, float],
    grad_norm: float,
    step: int,
    group: list[Batch],
) -> str:
    gradients = [k for k, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    statistics = [name for name, b in buffers.items() if not b.isfinite().all()]
    return (
        f"step {step}: losses {losses}, gradient norm {grad_norm}; weights and BatchNorm statistics were not changed. "
        f"First non-finite gradients: {gradients[:3] or 'none'}, buffers: {statistics[:3] or 'none'}; "
        f"{_largest_input(group)}. Lower optim.lr, set train.clip_norm, or check the data with python -m data.check"
    )


def _largest_input(group: list[Batch]) -> str:
    peaks: list[tuple[float, int]] = []
    for batch in group:
        x = batch.x.float()
        rows = (x.transpose(0, 1) if x.dim() == 5 else x).flatten(1).abs()
        peaks += zip(rows.nan_to_num(math.inf, math.inf).amax(1).tolist(), batch.image_ids, strict=True)
    peak, image = max(peaks)
    return (
        f"largest input: {peak:.3g} in image {image}" if math.isfinite(peak) else f"input of image {image} not finite"
    )
