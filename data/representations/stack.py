"""Stacks of events by time (SBT) or by number of events (SBN)."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from ..recordings.interface import Events
from .base import Representation, check_choice, step_edges
from .cells import cell_indices, count, signed_sum, two_signs
from .registry import register_representation


class Stack(Representation):
    """[T, C, H, W]; a subclass defines the events of each step (`edges`).

    polarity: "separate": uint8, C = 2, OFF and ON. "signed": int8, C = 1, ON less OFF
    value:    "sum": the number of events, saturating at 255, or their signed sum, at -127 and 127. "binary": 1 where
              that number is not 0; of a signed sum its sign, -1, 0 or 1
    """

    form: str

    def __init__(self, num_steps: int, polarity: str = "separate", value: str = "sum"):
        super().__init__(num_steps)
        check_choice(self.form, "polarity", polarity, ("separate", "signed"))
        check_choice(self.form, "value", value, ("sum", "binary"))
        self.signed = polarity == "signed"
        self.channels, self.dtype = (1, np.int8) if self.signed else (2, np.uint8)
        self.most = 1 if value == "binary" else 127 if self.signed else 255

    @abstractmethod
    def edges(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        """int64 [T + 1]: step k holds the events edges[k] .. edges[k + 1] - 1."""

    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        edges, area = self.edges(events, t0_us, t1_us, height, width), height * width
        shape = self.num_steps, self.channels, height, width
        starts, cells = np.arange(self.num_steps) * (self.channels * area), int(np.prod(shape))
        cell = cell_indices(events, edges, starts, 0 if self.signed else area, width)
        if not self.signed:
            return count(cell, cells, self.most).reshape(shape)
        total = signed_sum(cell, events.p[edges[0] : edges[-1]], cells)
        return np.clip(total, -self.most, self.most).astype(np.int8).reshape(shape)

    def view(self, x: np.ndarray) -> np.ndarray:
        return two_signs(x[:, 0]) if self.signed else x


@register_representation("sbt")
class StackByTime(Stack):
    """[T, C, H, W], see `Stack`: step k holds the events of the k-th of T equal slices of the window. (Wang et al.,
    "Event-based high dynamic range image and very high frame rate video generation", 2019: signed sums.)"""

    form = "sbt"

    def edges(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        return step_edges(events, t0_us, t1_us, self.num_steps, height, width)


@register_representation("sbn")
class StackByNumber(Stack):
    """[T, C, H, W], see `Stack`: of the N events of the window, step k holds those from floor(k N / T) on and before
    floor((k + 1) N / T). The numbers of two steps differ by at most one, and no event is dropped. (Wang et al., 2019,
    as in `sbt`; theirs fixes the number of a stack, and with it how long it lasts.)"""

    form = "sbn"

    def edges(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        first, *_, last = step_edges(events, t0_us, t1_us, self.num_steps, height, width)
        return first + np.arange(self.num_steps + 1) * (last - first) // self.num_steps
