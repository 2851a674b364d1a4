"""The passes of an evaluation over the split: one; or one per T, noise, length of history or of windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from analysis.energy.estimate import Estimate
from models import Detector
from scoring.evaluator import Evaluator

from ..curve_run import CurveRun, Files
from ..history import HistoryRun
from ..recorded import Recorded, estimated, evaluate_recorded
from ..window_lengths import WindowsRun
from .subject import Subject


@dataclass
class Passed:
    """evaluator: the detections that are scored; recorded: what layers did; several: the run of several passes."""

    evaluator: Evaluator
    recorded: Recorded
    several: CurveRun | HistoryRun | WindowsRun | None = None


def run_passes(
    subject: Subject,
    model: Detector,
    settings: dict[str, Any],
    source: str,
    spikes: bool,
    energy: str | None,
    save: Callable[[Files], object] | None,
) -> Passed:
    """settings: stand in the files of several passes beside the results.
    source: for titles. spikes: count operations. energy: the rule of memory to estimate it by.
    save: called with the files of several passes as they are."""
    device, precision = subject.device, subject.precision
    if subject.curve.steps:
        ann, options = subject.run.ann, subject.curve
        curves = CurveRun(model, ann, options, subject.new_evaluator, subject.protocol, settings, source)
        estimate = Estimate(model, energy) if energy else None
        curves.run(subject.load(subject.dataset), device, precision, save, estimate)
        rates, shares = curves.curve.firing_rates(), curves.curve.spike_shares()
        recorded = Recorded(rates, shares, energy=estimated(estimate))
        return Passed(curves.curve.scored[subject.curve.steps[-1]], recorded, curves)
    if subject.history:
        split = subject.dataset, subject.history, subject.load, subject.new_evaluator
        history = HistoryRun(model, *split, subject.protocol, settings, source)
        recorded = history.run(device, precision, save, spikes, energy)
        return Passed(history.evaluator, recorded, history)
    if subject.windows:
        lengths = subject.dataset, subject.windows, subject.with_window, subject.load, subject.new_evaluator
        windows = WindowsRun(model, *lengths, subject.protocol, settings, source)
        recorded = windows.run(device, precision, save, spikes, energy)
        return Passed(windows.evaluator, recorded, windows)
    evaluator, loader = subject.new_evaluator(), subject.load(subject.dataset)
    return Passed(evaluator, evaluate_recorded(model, loader, evaluator, device, precision, spikes, energy=energy))
