"""Bilinear interpolation of events in time, between the two nearest bins, for voxel grids and event volumes."""

from __future__ import annotations

import numpy as np


def bilinear(t: np.ndarray, start: np.ndarray, weight: np.ndarray, bins: int, area: int, cells: int) -> np.ndarray:
    """float64 [cells]: sum of the interpolated events of one step.

    With t* = (bins - 1) (t - t[0]) / max(t[-1] - t[0], 1) an event adds weight * max(0, 1 - |b - t*|) to the cell
    start + b * area of each bin b. t int64 [n] us, sorted; start intp [n], the event's cell in bin 0; weight int64 [n].
    """
    volume = np.zeros(cells, np.int64)
    if not len(t):
        return volume.astype(np.float64)
    # Integer sums, divided at the end: events that cancel give exactly 0.
    length = max(int(t[-1] - t[0]), 1)
    place = (t - t[0]) * (bins - 1)
    left = np.minimum(place // length, max(bins - 2, 0))
    right = place - left * length
    cell = start + left * area
    np.add.at(volume, cell, weight * (length - right))
    if bins > 1:
        np.add.at(volume, cell + area, weight * right)
    return volume / length
