"""Validation during training: scores, firing rates and images of the averaged weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from analysis.silence import silence_text, silent_layers
from scoring.evaluator import Evaluator
from scoring.protocols import get_protocol
from scoring.voc_ap import Curve, precision_recall

from . import distributed
from .evaluation import Predict, evaluate, predictor
from .inspection import Inspection
from .runs.board import THRESHOLDS
from .runs.log import RunLog, SilentLog

DRAWN = 20


@dataclass
class Validation:
    """Validation during training.

    new_evaluator: makes an empty `Evaluator` of the validation split.
    draw: (evaluator of the whole validation split) -> its images, uint8 [3, H, W] each.
    draw_closing: (model in evaluation mode) -> images of when event frames close, none if its encoder closes none.
    every: epochs between validations; the last epoch is always validated.
    both: also score the weights that are trained, without their average.
    silent: layers that the user was warned of.
    """

    loader: DataLoader
    new_evaluator: Callable[[], Evaluator]
    protocol: str
    draw: Callable[[Evaluator], list[torch.Tensor]]
    draw_closing: Callable[[Any], list[torch.Tensor]] | None = None
    every: int = 1
    both: bool = False
    silent: set[str] = field(default_factory=set, init=False)

    def draws_after(self, epoch: int, epochs: int) -> bool:
        """Whether the evaluation after `epoch` of `epochs` shows images and layers: `DRAWN` of them, spread over a
        training, and the first do. Images are most of the files of TensorBoard, which shows 10 of each tag."""
        return epoch <= self.every or epoch * DRAWN // epochs > (epoch - self.every) * DRAWN // epochs

    def score(
        self,
        model: nn.Module,
        current: nn.Module,
        device: torch.device,
        precision: str,
        log: RunLog | SilentLog,
        step: int,
        draws: bool = True,
    ) -> dict[str, Any]:
        """Evaluate `model`, the averaged weights, log what it shows at `step`; returns the scores as "val/...".

        current: the weights that are trained, which are scored too with `both`, as "val/..._of_weights".
        draws: whether images and single layers are logged, too.
        """
        evaluator = self.new_evaluator()
        with Inspection(model, closely=draws) as inspection:
            self._fill(evaluator, model, device, precision, inspection.first)
        inspection.merge()
        scores = evaluator.score(self.protocol)
        log.scalars(inspection.scalars(), step)
        self._warn(inspection.firing.rates(), log, step)
        if draws:
            log.attempt("precision-recall curves", lambda: log.precision_recall(self._curves(evaluator), step))
            log.attempt("drawing layers", lambda: log.images(inspection.images(), step))
            log.attempt("drawing validation images", lambda: log.images(_numbered("val", self.draw(evaluator)), step))
        if draws and self.draw_closing is not None:
            images = self.draw_closing
            log.attempt("drawing when frames close", lambda: log.images(_numbered("val_closing", images(model)), step))
        found = {f"val/{key}": value for key, value in scores.items()}
        if self.both:
            evaluator, weights = self.new_evaluator(), copy.deepcopy(model)  # with the options of evaluation
            weights.load_state_dict(current.state_dict())
            self._fill(evaluator, weights, device, precision)
            ap = {key: value for key, value in evaluator.score(self.protocol).items() if key in ("AP", "AP50", "AP75")}
            found |= {f"val/{key}_of_weights": value for key, value in ap.items()}
        numbers = {key: value for key, value in found.items() if isinstance(value, (int, float))}
        return {"val/protocol": self.protocol} | numbers

    def _fill(
        self,
        evaluator: Evaluator,
        model: nn.Module,
        device: torch.device,
        precision: str,
        watched: Callable[[Predict], Predict] = lambda predict: predict,
    ) -> None:
        """Add the detections of `model`, with rank 0's buffers, on the whole split."""
        distributed.broadcast_buffers(model)
        with predictor(model, self.loader) as predict:
            evaluate(watched(predict), self.loader, [evaluator], device, precision)

    def _curves(self, evaluator: Evaluator) -> dict[str, Curve]:
        """Of the boxes that count, and detections of at least the first threshold that is shown."""
        truth, found = evaluator.truth_and_detections()
        found = [detection for detection in found if detection["score"] >= THRESHOLDS[1]]
        return precision_recall(*get_protocol(self.protocol).counted(truth, found))

    def _warn(self, rates: dict[str, float], log: RunLog | SilentLog, step: int) -> None:
        """Warn of layers that have fallen silent since the last warning."""
        silent = silent_layers(rates)
        log.scalars({"val_spikes/silent_layers": len(silent)} if rates else {}, step)
        if not self.silent.issuperset(silent):
            self.silent.update(silent)
            log.warn(silence_text(rates, silent), step)


def _numbered(group: str, images: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{group}_pictures/{i}": image for i, image in enumerate(images)}
