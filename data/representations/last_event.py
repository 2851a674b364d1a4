"""Last event: gray-scale images of the polarity of each pixel's last event in a time step (EMS-YOLO, SpikeYOLO)."""

from __future__ import annotations

import numpy as np

from ..recordings.interface import Events
from .base import Representation, step_edges
from .cells import cell_indices
from .registry import register_representation

GROUND = 127  # value without events


@register_representation("last_event")
class LastEvent(Representation):
    """uint8 [T, 3, H, W], three equal channels: 255 where a pixel's last event of the step is ON, 0 where it is OFF,
    127 where it had none. The network takes x / 255.

    From the published scripts of EMS-YOLO (Su et al. 2023) and SpikeYOLO (Luo et al. 2024). Differs in that these use
    the events of [t0, t1), that EMS-YOLO stretches 304x240 to 320x320, and that SpikeYOLO's loader reverses the steps
    and pads with 114: see `newest_first` and `pad` of `EventInput`.
    """

    channels = 3
    scale = 1 / 255
    empty = GROUND
    gray_images = True

    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        edges = step_edges(events, t0_us, t1_us, self.num_steps, height, width)
        cell = cell_indices(events, edges, np.arange(self.num_steps) * (height * width), 0, width)
        frames = np.full(self.num_steps * height * width, GROUND, np.uint8)
        # The last of several events at a pixel wins.
        frames[cell] = events.p[edges[0] : edges[-1]] * np.uint8(255)
        return np.repeat(frames.reshape(self.num_steps, 1, height, width), 3, axis=1)
