"""Prophesee's 1 Megapixel automotive data set: Gen1's files, 1280 x 720 pixels, seven labelled classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..registry import register_dataset
from .gen1 import Gen1

LABEL_NAMES = ("pedestrian", "two wheeler", "car", "truck", "bus", "traffic sign", "traffic light")


@register_dataset("one_mpx")
class OneMpx(Gen1):
    """Arguments of `Gen1`, with other defaults:

    classes: of the seven, those to learn and to score: the three that papers do. Boxes of the others are left out
    size:    half of the recordings'. Coordinates of events are halved, so counts of four pixels add up

    The ground truth stays in pixels of the recordings: score it by the protocol `prophesee_1mpx`. Labels come at 30 or
    60 Hz; `labels: rvt_1mpx`, or {label_hz: 10}, thins them out.
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
