"""Prophesee 1 Megapixel automotive dataset (1Mpx): layout of Gen1, 1280 x 720 pixels, seven labelled classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..registry import register_dataset
from .gen1 import Gen1

LABEL_NAMES = ("pedestrian", "two wheeler", "car", "truck", "bus", "traffic sign", "traffic light")


@register_dataset("one_mpx")
class OneMpx(Gen1):
    """Arguments of `Gen1`, with other defaults:

    classes: which of the seven are trained and scored; default: the three of the literature. Other boxes are left out
    size:    half of the recordings' size. Event coordinates are halved, so the counts of 2 x 2 pixels are summed

    The ground truth stays in pixels of the recordings: use the protocol `prophesee_1mpx`. Labels come at 30 or 60 Hz;
    `labels: rvt_1mpx`, or {label_hz: 10}, subsamples them.
    """

    def __init__(
        self,
        split: str,
        *,
        classes: Sequence[str] = LABEL_NAMES[:3],
        size: Sequence[int] | None = (384, 640),
        **gen1: Any,
    ):
        super().__init__(split, **{"classes": classes, "label_names": LABEL_NAMES, "size": size, **gen1})
