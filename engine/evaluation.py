"""Evaluation for training and evaluate.py: each rank runs its share of a split, then all ranks hold all detections."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from data.atomic_file import write_atomically
from data.sample import Batch
from models.detector import NonFiniteLogitsError
from registry import UserError
from scoring.evaluator import Evaluator

from . import distributed
from .loop import stream_of
from .precision import autocast
from .prefetch import prefetched

# Of each image: boxes [N, 4] xyxy in pixels of x, scores [N], labels [N].
Detections = list[dict[str, Tensor]]
# (float input on the device, its batch) -> detections for each evaluator, in order.
Predict = Callable[[Tensor, Batch], Iterable[Detections]]


@torch.inference_mode()
def evaluate(
    predict: Predict,
    batches: Iterable[Batch],
    evaluators: Sequence[Evaluator],
    device: torch.device,
    precision: str = "fp32",
) -> None:
    """Add the detections of `predict` on `batches` to `evaluators`, and merge those of all ranks.

    `predict(x, batch)` gives one list of detections per evaluator, in order: that of one model is made by `predictor`,
    one evaluator per number of steps is filled by `engine.curve.Curve`.

    UserError naming the image if its input or logits are not finite.
    """
    for batch in prefetched(batches, device):
        x, _ = batch.to(device)
        _require_finite_input(x, batch)
        try:
            with autocast(device, precision):
                for evaluator, found in zip(evaluators, predict(x, batch), strict=True):
                    evaluator.add([{key: value.cpu() for key, value in image.items()} for image in found], batch)
        except NonFiniteLogitsError as error:
            bad = [batch.image_ids[entry] for entry in error.entries]
            raise UserError(
                f"image {bad[0]}: logits are not finite ({len(bad)} of {len(batch.image_ids)} images of the batch); "
                "the weights have diverged: use an earlier checkpoint, or train with a lower optim.lr"
            ) from error
    if distributed.world_size() > 1:
        for evaluator in evaluators:
            evaluator.merge(distributed.gather(evaluator.state()))


@contextmanager
def predictor(model: nn.Module, loader: DataLoader) -> Iterator[Predict]:
    """The detections of `model`, set to evaluation mode, for one evaluator.

    Where the samples of `loader` come in sequence, each row of a batch continues from the membranes of that row of the
    batch before, except where `batch.starts`; unlabelled samples only update them.
    """
    model.eval()
    with stream_of(model, loader) as stream:

        def predict(x: Tensor, batch: Batch) -> list[Detections]:
            if stream is None:
                return [model(x)]
            if batch.starts.all():  # also where the number of rows changes
                stream.reset()
            elif batch.starts.any():  # skip the reset, a copy of every membrane, where no row starts
                stream.reset(batch.starts)
            return [model(x, batch.targets)]

        yield predict


def write_detections(path: str | Path, evaluator: Evaluator) -> None:
    """Write COCO results as JSON, atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(evaluator.detections()))


def _require_finite_input(x: Tensor, batch: Batch) -> None:
    """Spiking neurons do not fire on NaN, so the detections of a damaged input would look plausible."""
    if batch.x.is_floating_point() and not x.isfinite().all():
        rows = x.transpose(0, 1) if x.dim() == 5 else x  # event frames have the time first
        bad = [i for i, row in zip(batch.image_ids, rows, strict=True) if not row.isfinite().all()]
        raise UserError(f"image {bad[0]}: its input is not finite ({len(bad)} of {len(rows)} images of the batch)")
