"""Event counts: number of OFF and ON events per pixel and time step."""

from __future__ import annotations

import numpy as np

from ..recordings.interface import Events
from .base import Representation, check_clip, step_edges
from .cells import cell_indices, count
from .registry import register_representation


@register_representation("counts")
class Counts(Representation):
    """uint8 [T, 2, H, W]: number of OFF (channel 0) and ON (channel 1) events, saturating at `clip`, 1 to 255.

    With `clip` 1 the frames are binary spikes. They are the frames of SpikingJelly (Fang et al. 2023), except that the
    window is divided into equal steps, not the time from the first to the last event.
    """

    channels = 2

    def __init__(self, num_steps: int, clip: int = 255):
        super().__init__(num_steps)
        check_clip("counts", clip)
        self.clip = clip

    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        edges = step_edges(events, t0_us, t1_us, self.num_steps, height, width)
        shape = self.num_steps, 2, height, width
        starts = np.arange(self.num_steps) * (2 * height * width)
        cell = cell_indices(events, edges, starts, height * width, width)
        return count(cell, int(np.prod(shape)), self.clip).reshape(shape)
