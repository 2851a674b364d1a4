"""Counts: how often each pixel fired OFF and ON in each time step."""

from __future__ import annotations

import numpy as np

from ..events.interface import Events
from .base import Representation, step_edges
from .registry import register_representation


@register_representation("counts")
class Counts(Representation):
    """uint8 [T, 2, H, W]: numbers of OFF (channel 0) and ON (channel 1) events, saturating at `clip`, 1 to 255.

    With `clip` 1 it is any-event, the only form that is binary spikes.
    """

    channels = 2

    def __init__(self, num_steps: int, clip: int = 255):
        super().__init__(num_steps)
        if not 0 < clip <= 255:
            raise ValueError(f"counts: clip = {clip} is outside 1..255, the range of uint8 counts")
        self.clip = clip

    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        edges = step_edges(events, t0_us, t1_us, self.num_steps, height, width)
        pixel = (events.p * np.int32(height) + events.y) * np.int32(width) + events.x
        frames = np.empty((self.num_steps, 2 * height * width), np.uint8)
        for k in range(self.num_steps):
            counts = np.bincount(pixel[edges[k] : edges[k + 1]], minlength=frames.shape[1])
            np.minimum(counts, self.clip, out=frames[k], casting="unsafe")
        return frames.reshape(self.num_steps, 2, height, width)
