"""What stacks by time and by number have in common: what a step's events make of its cells."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from ..recordings.interface import Events
from .base import Representation, check_choice
from .cells import cell_indices, count, signed_sum, two_signs


class Stack(Representation):
    """[T, C, H, W]; a subclass says which events are in which step.

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
