"""The passes of an evaluation over the split: one; or one per T, noise, length of history or of windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from analysis.energy.estimate import Estimate
from models import Detector
from scoring.evaluator import Evaluator

from ..curve_run import CurveRun, Files
from ..recorded import Recorded, estimated, evaluate_recorded
from ..sweep import SweepRun
from .subject import Subject


@dataclass
class Passed:
    """evaluator: the detections that are scored; recorded: what layers did; several: the run of several passes."""

    evaluator: Evaluator
    recorded: Recorded
    several: CurveRun | SweepRun | None = None


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
    if (sweep := subject.sweep()) is not None:
        split = subject.load, subject.new_evaluator, subject.protocol
        several = SweepRun(model, sweep, *split, settings, source)
        recorded = several.run(device, precision, save, spikes, energy)
        return Passed(several.evaluator, recorded, several)
    evaluator, loader = subject.new_evaluator(), subject.load(subject.dataset)
    return Passed(evaluator, evaluate_recorded(model, loader, evaluator, device, precision, spikes, energy=energy))
