"""SBN: stacks of equal numbers of events."""

from __future__ import annotations

import numpy as np

from ..recordings.interface import Events
from .base import step_edges
from .registry import register_representation
from .stack import Stack


@register_representation("sbn")
class StackByNumber(Stack):
    """[T, C, H, W], see `Stack`: of the N events of the window, step k holds those from floor(k N / T) on and before
    floor((k + 1) N / T). The numbers of two steps differ by at most one, and no event is dropped. (Wang et al., 2019,
    as in `sbt`; theirs fixes the number of a stack, and with it how long it lasts.)"""

    form = "sbn"

    def edges(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        first, *_, last = step_edges(events, t0_us, t1_us, self.num_steps, height, width)
        return first + np.arange(self.num_steps + 1) * (last - first) // self.num_steps
