"""Train one epoch: accumulate gradients, step, update the EMA, stop at non-finite values."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from data.sample import Batch
from models.layers.running_statistics import frozen_norms
from neurons import Stream
from registry import UserError

from .distributed import add_up, world_size
from .ema import SharedWeights
from .gradient_norms import GradientNorms
from .multi_scale import resized
from .nonfinite import Keep, StepStart, explain
from .optim import Schedule
from .precision import LossScaler, autocast
from .prefetch import prefetched

Losses = Callable[[torch.Tensor, Batch], dict[str, torch.Tensor]]
Phase = Callable[[str], None]


@dataclass
class Step:
    """What one optimizer step reports."""

    step: int
    losses: dict[str, float]  # per image, over the images of all ranks
    lr: dict[str, float]  # of the weights: see `Schedule.apply`
    grad_norm: float
    step_time: float  # seconds, data included
    data_time: float  # seconds spent waiting for the loader
    stage_norms: dict[str, float] = field(default_factory=dict)  # of the gradient of each stage of the network


@dataclass
class Update:
    """Optimizer, schedule, EMA, and how gradients are accumulated and clipped.

    accumulate: backward passes whose gradients are added for one step of `optimizer`.
    bptt: batches in sequence whose losses are added for one backward pass; above 1 in a `Stream` only.
    clip_norm: largest norm of all gradients together; None: no clipping.
    ema: the averaged weights, updated at each step.
    scaler: of losses in float16, which skips steps whose gradients overflow; None: losses are not scaled.
    """

    optimizer: torch.optim.Optimizer
    schedule: Schedule
    ema: AveragedModel | SharedWeights
    accumulate: int = 1
    clip_norm: float | None = None
    bptt: int = 1
    scaler: LossScaler | None = None

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
    seconds: float = 0.0

    def add(self, images: int, losses: Mapping[str, float]) -> None:
        self.images += images
        for key, value in losses.items():
            self.losses[key] = self.losses.get(key, 0.0) + value

    def means(self) -> dict[str, float]:
        """Of each loss per image."""
        return {key: value / self.images for key, value in self.losses.items()}


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
    more_losses: Losses | None = None,
    sizes: Callable[[int], tuple[int, int]] | None = None,
    keep: Keep | None = None,
    phase: Phase = lambda name: None,
) -> dict[str, float]:
    """Train `model` on all `batches`; returns the mean of each loss per image of all ranks, with what is in `running`.

    running: brought up to date before each call of `on_step`; to continue an epoch within it, as it was there.
    stream: the `Stream` of `model` for stateful training: each batch row continues from the membranes of the same row
        in the batch before, except rows in `batch.starts`. Truncated BPTT (Williams and Peng, 1990): the losses of
        `update.bptt` batches are added and sent backward together, through the states carried between them; gradients
        stop where a row starts and before the first of these batches. `stream_of(model, loader, update.bptt)` makes it.
    more_losses: a function of (x, batch), called after the model: losses to be added to its own (`distill`).
    sizes: a function of the step: the (height, width) that its images are resized to (`MultiScale`).
    keep: writes what `nonfinite.explain` gives it of a step that is not finite.
    phase: called with "data", "forward" (with the losses), "backward" or "optimizer" when it begins.

    Losses are sums over images, so the gradients of accumulated batches and of several processes are added (DDP
    averages them; the factor `world_size()` undoes that), and equal those of one large batch. Heads that normalise by
    the content of a batch document the difference. The last step of an epoch may have fewer batches.

    FloatingPointError on every rank for a loss, gradient or buffer of any rank that is not finite: the step is not
    taken, and weights, averages and BatchNorm statistics are those of the step before. ValueError for a target box
    that is not finite.
    """
    model.train()
    for frozen in frozen_norms(model):
        frozen.eval()
    net = getattr(model, "module", model)  # without DDP
    buffers = [b for b in net.buffers() if b.is_floating_point()]
    before = [torch.empty_like(b) for b in buffers]
    norms = GradientNorms(net)
    running = Running() if running is None else running
    step = first_step
    started = time.perf_counter()
    scaler = update.scaler
    assert update.bptt == 1 or stream is not None
    backward = partial(
        run_batches,
        bptt=update.bptt,
        device=device,
        precision=precision,
        scaler=scaler,
        stream=stream,
        more_losses=more_losses,
        phase=phase,
    )
    phase("data")
    for group, data_time in _groups(prefetched(batches, device), update.batches):
        lr = update.schedule.apply(update.optimizer, step)
        update.optimizer.zero_grad(set_to_none=True)
        start = StepStart(device, stream, buffers, before)
        taken = backward if sizes is None else partial(backward, size=sizes(step))
        summed, labelled = taken(model, group)
        phase("optimizer")
        if scaler is not None:
            scaler.unscale(update.optimizer)
        norm, of_stages = norms()
        peak = nn.utils.get_total_norm(buffers, math.inf)
        losses, count, (grad_norm, *stage_norms), finite = _over_ranks(summed, labelled, norm, of_stages, peak)
        overflow = scaler is not None and scaler.skips(grad_norm)
        if not finite or not (overflow or math.isfinite(grad_norm)):
            explain(f"step {step}: losses {losses}, gradient norm {grad_norm}", net, group, taken, start, keep)
        if not overflow:
            if update.clip_norm is not None:
                nn.utils.clip_grads_with_norm_(model.parameters(), update.clip_norm, norm)
            update.optimizer.step()
            update.ema.update_parameters(net)
        now = time.perf_counter()
        running.add(count, losses)
        running.batches += len(group)
        running.seconds += now - started
        per_image = {key: value / count for key, value in losses.items()}
        of_stage = dict(zip(norms.stages, stage_norms, strict=True))
        on_step(Step(step, per_image, lr, grad_norm, now - started, data_time, of_stage))
        started = now
        step += 1
        phase("data")
    return running.means()


def run_batches(
    model: nn.Module,
    group: list[Batch],
    *,
    bptt: int,
    device: torch.device,
    precision: str,
    scaler: LossScaler | None = None,
    stream: Stream | None = None,
    more_losses: Losses | None = None,
    phase: Phase = lambda name: None,
    size: tuple[int, int] | None = None,
) -> tuple[dict[str, torch.Tensor], int]:
    """Add the gradients of the batches of one step. Returns the sum of each loss, on the device, and the number of
    labelled images. size: (height, width) that images are resized to; the others as in `train_epoch`."""
    summed: dict[str, torch.Tensor] = {}
    unrolled: torch.Tensor | float = 0.0  # losses that have not been sent backward
    count = 0
    for i, batch in enumerate(group):
        last = i == len(group) - 1
        sums_later = isinstance(model, DistributedDataParallel) and not last
        # Gradients are exchanged once, in the backward pass of the last batch.
        with model.no_sync() if sums_later else nullcontext():  # type: ignore[operator]
            phase("data")
            _require_finite_boxes(batch)
            x, targets = batch.to(device)
            if size is not None:
                x, targets = resized(x, targets, size)
            # Skip the reset, a copy of every membrane, where no row starts.
            if stream is not None and batch.starts.any():
                stream.reset(batch.starts)
            phase("forward")
            with autocast(device, precision):
                parts = model(x, targets)
                if more_losses is not None:
                    parts = parts | more_losses(x, batch)
            unrolled = unrolled + torch.stack(list(parts.values())).sum()
            if last or (i + 1) % bptt == 0:
                phase("backward")
                total = unrolled * world_size()
                (total if scaler is None else scaler.scaled(total)).backward()
                unrolled = 0.0
                if stream is not None and bptt > 1:
                    stream.detach()
        for key, value in parts.items():
            summed[key] = summed.get(key, 0.0) + value.detach()
        count += sum(target is not None for target in targets)
    return summed, count


def _over_ranks(
    summed: dict[str, torch.Tensor], labelled: int, norm: torch.Tensor, of_stages: torch.Tensor, peak: torch.Tensor
) -> tuple[dict[str, float], int, list[float], bool]:
    """(losses and labelled images of all ranks, norms, whether losses and buffers of all ranks are finite): the one
    host synchronisation of a step. Norms are the same on all ranks: of the gradient and of its stages; peak: largest
    buffer of this rank."""
    device = next(iter(summed.values())).device
    images = torch.full((), labelled, dtype=torch.float64, device=device)
    numbers = add_up(torch.stack([*(value.double() for value in summed.values()), images, peak.to(device).double()]))
    of_all = torch.cat([norm[None], of_stages]).to(device).float().double()
    found = torch.cat([numbers, of_all]).tolist()
    (*losses, count, largest), norms = found[: len(numbers)], found[len(numbers) :]
    finite = all(map(math.isfinite, (*losses, largest)))
    # A step may have no label at all.
    return dict(zip(summed, losses, strict=True)), max(round(count), 1), norms, finite


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
