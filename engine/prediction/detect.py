"""Detections of a batch of frames in original pixels (`Detect`), as evaluate.py computes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from data.sample import Batch, collate
from models import Detector
from neurons import Stream
from registry import UserError
from scoring.evaluator import Evaluator

from ..evaluation import Detections, evaluate
from .frame import Found, Frame


class Detect:
    """Calling it with frames of one shape gives the detections of each. Made by `detecting`."""

    def __init__(
        self, model: Detector, class_names: list[str], scale: float, device: torch.device, precision: str,
        stream: Stream | None,
    ):  # fmt: skip
        self._model, self._scale, self._device, self._precision = model, scale, device, precision
        self._stream = stream
        self._categories = [{"id": k, "name": name} for k, name in enumerate(class_names, 1)]

    def __call__(self, frames: list[Frame]) -> list[Found]:
        """UserError as of `evaluate`: for an input, logits or boxes that are not finite."""
        images = [{"id": frame.sample.image_id, "file_name": frame.name} for frame in frames]
        truth: dict[str, Any] = {"images": images, "annotations": [], "categories": self._categories}
        evaluator = Evaluator(truth)
        batch = collate([frame.sample for frame in frames], self._scale)
        try:
            evaluate(self._predict, [batch], [evaluator], self._device, self._precision)
        except UserError as error:
            for frame in frames:  # by its file, not by its number
                if str(error).startswith(number := f"image {frame.sample.image_id}: "):
                    raise UserError(f"{frame.name}: {str(error).removeprefix(number)}") from error
            raise
        found = [evaluator.found(frame.sample.image_id) for frame in frames]
        return [Found(**detections) for detections in found if detections is not None]

    def _predict(self, x: Tensor, batch: Batch) -> list[Detections]:
        if self._stream is not None and batch.starts.any():
            self._stream.reset()  # one recording at a time: the batch is one window
        return [self._model(x)]


@contextmanager
def detecting(
    model: Detector, class_names: list[str], scale: float, device: torch.device, precision: str, carry: bool
) -> Iterator[Detect]:
    """carry: each frame continues from the membranes of the one before, but where `Sample.start`; one at a time."""
    with Stream(model) if carry else nullcontext() as stream:
        yield Detect(model, class_names, scale, device, precision, stream)
