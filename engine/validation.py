"""Validation during training: scores, firing rates and images of the averaged weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from analysis.closing import ClosingTimes
from analysis.firing_rate import FiringRates
from analysis.saturation import Saturation
from scoring.evaluator import Evaluator

from . import distributed
from .evaluation import evaluate, predictor
from .runs.log import RunLog, SilentLog

DRAWN = 20


@dataclass
class Validation:
    """Validation during training.

    new_evaluator: makes an empty `Evaluator` of the validation split.
    draw: (evaluator of the whole validation split) -> its images, uint8 [3, H, W] each.
    draw_closing: (model in evaluation mode) -> images of when event frames close, none if its encoder closes none.
    every: epochs between validations; the last epoch is always validated.
    """

    loader: DataLoader
    new_evaluator: Callable[[], Evaluator]
    protocol: str
    draw: Callable[[Evaluator], list[torch.Tensor]]
    draw_closing: Callable[[Any], list[torch.Tensor]] | None = None
    every: int = 1

    def draws_after(self, epoch: int, epochs: int) -> bool:
        """Whether the evaluation after `epoch` of `epochs` draws images: `DRAWN` of them, spread over a training, and
        the first do. Images are nine tenths of the files of TensorBoard, which shows 10 of each tag."""
        return epoch <= self.every or epoch * DRAWN // epochs > (epoch - self.every) * DRAWN // epochs

    def score(
        self,
        model: nn.Module,
        device: torch.device,
        precision: str,
        log: RunLog | SilentLog,
        step: int,
        draws: bool = True,
    ) -> dict[str, Any]:
        """Evaluate `model` with rank 0's buffers, log what it shows at `step`; returns the scores as "val/...".

        draws: whether images are logged, too.
        """
        distributed.broadcast_buffers(model)
        evaluator = self.new_evaluator()
        watching = FiringRates(model), ClosingTimes(model), Saturation(model, calls=1)
        firing, closing, saturation = watching
        with firing, closing, saturation, predictor(model, self.loader) as predict:
            evaluate(predict, self.loader, [evaluator], device, precision)
        for recorder in watching:
            sums = distributed.gather(recorder.sums())
            recorder.merge(sums[:1] if recorder is saturation else sums)  # of the first batch, which rank 0 has
        scores = evaluator.score(self.protocol)
        log.firing_rates(firing.rates(), firing.shares(), step)
        log.closing_times(closing.shares(), step)
        log.saturation(saturation.shares(), step)
        if draws:
            log.attempt("drawing validation images", lambda: log.images(self.draw(evaluator), step))
        if draws and self.draw_closing is not None:
            images = self.draw_closing
            log.attempt("drawing when frames close", lambda: log.images(images(model), step, "val_closing_pictures"))
        return {"val/protocol": self.protocol} | {
            f"val/{key}": value for key, value in scores.items() if isinstance(value, (int, float))
        }
