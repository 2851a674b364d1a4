"""Voxel grid: signed events, bilinear in time (Zhu)."""

from __future__ import annotations

import numpy as np

from registry import UserError

from ..recordings.interface import Events
from .base import Representation, check_numbers, step_edges
from .bilinear import bilinear
from .cells import cell_indices, two_signs
from .registry import register_representation


@register_representation("voxel_grid")
class VoxelGrid(Representation):
    """float32 [T, bins, H, W]: V[b] = sum of (2 p - 1) max(0, 1 - |b - t*|), t* = (bins - 1) (t - t_first) / d, where
    d = max(t_last - t_first, 1) of the step's own events. (Zhu et al., "Unsupervised event-based learning", 2019.)

    normalize: within each step the values that are not 0 get mean 0 and standard deviation 1 (over all of them, not
               one less), as E2VID's successors do; where they are all equal they stay as they are.
    """

    dtype = np.float32

    def __init__(self, num_steps: int, bins: int = 5, normalize: bool = False):
        super().__init__(num_steps)
        check_numbers("voxel_grid", 1, bins=bins)
        if not isinstance(normalize, bool):
            raise UserError(f"voxel_grid: normalize = {normalize!r}: give true or false")
        self.bins, self.normalize, self.channels = bins, normalize, bins

    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        edges = step_edges(events, t0_us, t1_us, self.num_steps, height, width)
        grid = np.empty((self.num_steps, self.bins * height * width), np.float32)
        for k in range(self.num_steps):
            step = slice(edges[k], edges[k + 1])
            sign = events.p[step].astype(np.int64) * 2 - 1
            pixel = cell_indices(events, edges[k : k + 2], np.zeros(1), 0, width)
            grid[k] = bilinear(events.t[step], pixel, sign, self.bins, height * width, grid.shape[1])
            if self.normalize:
                _normalize(grid[k])
        return grid.reshape(self.num_steps, self.bins, height, width)

    def view(self, x: np.ndarray) -> np.ndarray:
        signs = two_signs(x.reshape(-1, *x.shape[2:]))
        return signs.reshape(len(x), self.bins, 2, *x.shape[2:]).sum(1)


def _normalize(grid: np.ndarray) -> None:
    found = np.flatnonzero(grid)
    values = grid[found].astype(np.float64)
    if len(values) and values.min() < values.max():
        grid[found] = (values - values.mean()) / values.std()
