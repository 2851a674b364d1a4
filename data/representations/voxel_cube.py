"""Voxel cube: binary events per pixel in the micro-bins of each step (Cordone)."""

from __future__ import annotations

import numpy as np

from ..recordings.interface import Events
from .base import Representation, check_numbers, step_edges
from .cells import cell_indices
from .registry import register_representation


@register_representation("voxel_cube")
class VoxelCube(Representation):
    """uint8 [T, 2 * tbin, H, W] of 0 and 1: channel p * tbin + b is 1 where an event of polarity p came in slice b of
    the `tbin` equal slices of the step. (Cordone et al., "Object detection with spiking neural networks on automotive
    event data", 2022.)

    Differs from the published code in the channel, there (p + 1) * (b + 1) - 1: with tbin 2 its (p 0, b 1) and
    (p 1, b 0) share channel 1 and channel 2 is never set.
    """

    def __init__(self, num_steps: int, tbin: int = 2):
        super().__init__(num_steps)
        check_numbers("voxel_cube", 1, tbin=tbin)
        self.tbin, self.channels = tbin, 2 * tbin

    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        steps, tbin, area = self.num_steps, self.tbin, height * width
        edges = step_edges(events, t0_us, t1_us, steps * tbin, height, width)
        starts = (np.arange(steps)[:, None] * 2 * tbin + np.arange(tbin)) * area
        cube = np.zeros(steps * 2 * tbin * area, np.uint8)
        cube[cell_indices(events, edges, starts.ravel(), tbin * area, width)] = 1
        return cube.reshape(steps, 2 * tbin, height, width)

    def view(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), 2, self.tbin, *x.shape[2:]).sum(2, dtype=np.int32)
