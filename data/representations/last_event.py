"""Last event: pictures of which way each pixel fired last in each time step (EMS-YOLO, SpikeYOLO)."""

from __future__ import annotations

import numpy as np

from ..events.interface import Events
from .base import Representation, step_edges
from .registry import register_representation

GROUND = 127  # where no event came


@register_representation("last_event")
class LastEvent(Representation):
    """uint8 [T, 3, H, W], three equal channels: 255 where a pixel's last event of the step is ON, 0 where it is OFF,
    127 where it had none. The network is given x / 255."""

    channels = 3
    scale = 1 / 255
    empty = GROUND
    picture = True

    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        edges = step_edges(events, t0_us, t1_us, self.num_steps, height, width)
        pixel = events.y * np.int32(width) + events.x
        frames = np.full((self.num_steps, height * width), GROUND, np.uint8)
        for k in range(self.num_steps):
            step = slice(edges[k], edges[k + 1])
            frames[k, pixel[step]] = events.p[step] * np.uint8(255)  # of several events at a pixel the last one stays
        return np.repeat(frames.reshape(self.num_steps, 1, height, width), 3, axis=1)
