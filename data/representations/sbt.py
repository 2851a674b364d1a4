"""SBT: stacks of equal lengths of time."""

from __future__ import annotations

import numpy as np

from ..recordings.interface import Events
from .base import step_edges
from .registry import register_representation
from .stack import Stack


@register_representation("sbt")
class StackByTime(Stack):
    """[T, C, H, W], see `Stack`: step k holds the events of the k-th of T equal slices of the window. (Wang et al.,
    "Event-based high dynamic range image and very high frame rate video generation", 2019: signed sums.)"""

    form = "sbt"

    def edges(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        return step_edges(events, t0_us, t1_us, self.num_steps, height, width)
