"""Event volume: events of each polarity, bilinear in time (Perot)."""

from __future__ import annotations

import numpy as np

from ..recordings.interface import Events
from .base import Representation, check_numbers, step_edges
from .bilinear import bilinear
from .cells import cell_indices
from .registry import register_representation


@register_representation("event_volume")
class EventVolume(Representation):
    """float32 [T, 2 * bins, H, W]: channel p * bins + b is the sum over the events of polarity p of
    max(0, 1 - |b - t*|), t* = (bins - 1) (t - t_first) / d, where d = max(t_last - t_first, 1) of the step's events of
    both polarities. (Perot et al., "Learning to detect objects with a 1 megapixel event camera", 2020.)"""

    dtype = np.float32

    def __init__(self, num_steps: int, bins: int = 5):
        super().__init__(num_steps)
        check_numbers("event_volume", 1, bins=bins)
        self.bins, self.channels = bins, 2 * bins

    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        edges, area = step_edges(events, t0_us, t1_us, self.num_steps, height, width), height * width
        grid = np.empty((self.num_steps, 2 * self.bins * area), np.float32)
        for k in range(self.num_steps):
            t = events.t[edges[k] : edges[k + 1]]
            start = cell_indices(events, edges[k : k + 2], np.zeros(1), self.bins * area, width)
            grid[k] = bilinear(t, start, np.ones(len(t), np.int64), self.bins, area, grid.shape[1])
        return grid.reshape(self.num_steps, self.channels, height, width)

    def view(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), 2, self.bins, *x.shape[2:]).sum(2)
