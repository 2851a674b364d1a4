"""Options of evaluate.py for AP against T and for noise: the T to score, the densities, early exit."""

from __future__ import annotations

from dataclasses import dataclass, field

from data import DetectionDataset
from models import Detector
from registry import UserError

from .build import fixed_steps
from .early_exit import EarlyExit

CONVERTED = [16, 32, 64, 128, 256, 512, 1024, 2048]


@dataclass
class CurveOptions:
    """steps: T to score, empty: no curve; densities: of noise, 0 first, empty: no noise."""

    steps: list[int] = field(default_factory=list)
    densities: list[float] = field(default_factory=list)
    early_exit: EarlyExit | None = None


def curve_options(
    model: Detector,
    dataset: DetectionDataset,
    converted: bool,
    steps: str | None = None,
    noise: str | None = None,
    early_exit: float | None = None,
) -> CurveOptions:
    """steps: "16,32,64"; None: `CONVERTED` of a converted model (of events the frames of a window at most), the model's
    own T where there is noise, else no curve. noise: "0.1,0.3", to which 0 is added. early_exit: `EarlyExit.score`.

    UserError for values that cannot be, and where there is no curve: of networks without spikes, and of event windows
    in sequence.
    """
    densities = _densities(noise)
    if steps is not None:
        chosen = _steps(steps, model, fixed_steps(model, dataset.num_steps))
    elif converted:
        frames = fixed_steps(model, dataset.num_steps)
        chosen = CONVERTED if frames is None else [*(T for T in CONVERTED if T < frames), frames]
    else:
        chosen = [model.T] if densities else []
    if early_exit is not None and len(chosen) < 2:
        raise UserError("--early-exit compares the detections at several T: add them, as in --steps 8,16,32,64")
    if early_exit is not None and not 0 <= early_exit < 1:
        raise UserError(f"--early-exit {early_exit:g}: give a score of detections, 0 to 1")
    if chosen and dataset.sequences is not None:
        raise UserError(
            "with data.args.sampling=sequential each window goes on from the membranes of the one before, so there is "
            "no first step: leave out --steps and --noise, or add data.args.sampling=random"
        )
    return CurveOptions(chosen, densities, EarlyExit(early_exit) if early_exit is not None else None)


def _steps(text: str, model: Detector, frames: int | None) -> list[int]:
    try:
        steps = sorted({int(part) for part in text.split(",")})
    except ValueError:
        steps = []
    if not steps or steps[0] < 1:
        raise UserError(f"--steps {text}: give whole numbers above 0 with commas between them, as in --steps 16,32,64")
    if not model.spiking_layers():
        raise UserError(
            f"--steps {text}: this network has no spiking neurons, so every T would give the same detections. Convert "
            "it first: python convert.py CHECKPOINT"
        )
    if frames is not None and steps[-1] > frames:
        raise UserError(f"--steps {text}: a window of events has {frames} frames, so T is at most {frames}")
    return steps


def _densities(text: str | None) -> list[float]:
    if text is None:
        return []
    try:
        densities = {float(part) for part in text.split(",")}
    except ValueError:
        densities = set()
    if not densities or not all(0 <= density <= 1 for density in densities):
        raise UserError(f"--noise {text}: give shares of the pixels with commas between them, as in --noise 0.1,0.3")
    return sorted({0.0, *densities})
