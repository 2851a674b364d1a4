"""Robustness to salt-and-pepper noise: AP over the density of the noise, of a detector and of the ANN it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from models import Detector
from models.noise import SaltAndPepper

NOISY_STEPS, PERIOD = 2, 5
RULE = (
    f"salt-and-pepper noise: a share `density` of the pixels becomes 0 or 1, half of it each. The detector gets it in "
    f"the first {NOISY_STEPS} of every {PERIOD} steps, other pixels in each; an ANN in every step"
)


@contextmanager
def noisy(model: Detector, ann: Detector | None, density: float) -> Iterator[None]:
    """Within the block the inputs of `model` have noise in some of their steps, and those of `ann` in every step."""
    encoders = {model: model.encoder} | ({ann: ann.encoder} if ann is not None else {})
    spiking = bool(model.spiking_layers())
    model.encoder = SaltAndPepper(model.encoder, density, *((NOISY_STEPS, PERIOD) if spiking else (1, 1)))
    if ann is not None:
        ann.encoder = SaltAndPepper(ann.encoder, density, 1, 1)
    try:
        yield
    finally:
        for detector, encoder in encoders.items():
            detector.encoder = encoder


def robustness(summaries: Mapping[float, Mapping[str, Any]]) -> dict[str, Any]:
    """What robustness.json holds of the curves at each density. summaries: {density: `Curve.summary`}, 0 among them."""
    scores = ("AP50", "AP75", "AP")
    rows = [
        {
            "density": density,
            "ann": summary["ann"],
            "points": [{"T": point["T"], **{key: point[key] for key in scores}} for point in summary["points"]],
        }
        for density, summary in summaries.items()
    ]
    counts = {key: summaries[0.0][key] for key in ("protocol", "images", "expected_images")}
    return {"noise": RULE, **counts, "densities": rows}
