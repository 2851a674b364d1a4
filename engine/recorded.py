"""One pass of an evaluation while layers are recorded: firing rates, shares of signs, closing times, costs."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from analysis.closing import ClosingTimes
from analysis.energy.estimate import Estimate
from analysis.energy.table import brief
from analysis.firing_rate import FiringRates, Shares
from analysis.operations import Operations
from analysis.recorder import Recorder
from models import Detector
from scoring.evaluator import Evaluator

from . import distributed
from .evaluation import evaluate, predictor


@dataclass(frozen=True)
class Recorded:
    """What layers did, over all samples of all ranks, as metrics.json has it; None: not counted."""

    firing_rates: dict[str, float]
    spike_shares: Shares
    closing_times: dict[str, Any] = field(default_factory=dict)
    operations: dict[str, Any] | None = None
    energy: dict[str, Any] | None = None  # what energy.json holds

    def metrics(self, spikes: bool) -> dict[str, Any]:
        """Entries of metrics.json; those of spikes if asked for, and nothing that is empty."""
        found: dict[str, Any] = {"firing_rates": self.firing_rates} if spikes else {}
        of_spikes = {"spike_shares": self.spike_shares, "operations": self.operations} if spikes else {}
        if self.energy is not None:
            found["energy"] = brief(self.energy)
        return found | {k: v for k, v in {**of_spikes, "closing_times": self.closing_times}.items() if v}


def evaluate_recorded(
    model: Detector,
    loader: DataLoader,
    evaluator: Evaluator,
    device: torch.device,
    precision: str,
    operations: bool = False,
    title: str | None = None,
    energy: str | None = None,
) -> Recorded:
    """Fill `evaluator` with the detections of `model` on `loader`; with a progress bar, under `title`.

    energy: a rule of `analysis.energy.constants.MEMORIES`, by which to estimate it.
    """
    firing, closing = FiringRates(model), ClosingTimes(model)
    counting = Operations(model) if operations else None
    recorders: list[Recorder] = [firing, closing, *([counting] if counting else [])]
    estimate = Estimate(model, energy) if energy else None
    with ExitStack() as recording:
        for recorder in recorders:
            recording.enter_context(recorder)
        if estimate:  # last, so that what other recorders compute is not counted
            recording.enter_context(estimate)
        predict = recording.enter_context(predictor(model, loader))
        shown = distributed.is_main() and sys.stderr.isatty()
        bar = tqdm(loader, desc=title, leave=False, disable=not shown)
        evaluate(predict, bar, [evaluator], device, precision)
    for recorder in recorders:
        recorder.merge(distributed.gather(recorder.sums()))
    counted = counting.totals() if counting else None
    return Recorded(firing.rates(), firing.shares(), closing.shares(), counted, estimated(estimate))


def estimated(estimate: Estimate | None) -> dict[str, Any] | None:
    """The energy of what all ranks counted."""
    if estimate is None:
        return None
    estimate.merge(distributed.gather(estimate.state()))
    return estimate.result()
