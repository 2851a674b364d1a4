"""Where each event lands in a flat array of steps, channels and pixels, and how many land in each cell."""

from __future__ import annotations

import numpy as np

from ..events.interface import Events


def cell_indices(events: Events, edges: np.ndarray, starts: np.ndarray, polarity: int, width: int) -> np.ndarray:
    """intp [n]: the cells of the events edges[0] .. edges[-1] - 1, of which edges[i] .. edges[i + 1] - 1 are slice i.

    An event of slice i lands in starts[i] + p * polarity + y * width + x.
    """
    inside = slice(edges[0], edges[-1])
    pixel = events.y[inside] * np.int32(width) + events.x[inside]
    if polarity:
        pixel += events.p[inside] * np.int32(polarity)
    return np.repeat(np.asarray(starts, np.intp), np.diff(edges)) + pixel


def count(cell: np.ndarray, cells: int, clip: int = 255) -> np.ndarray:
    """uint8 [cells]: how often each number 0 .. cells - 1 occurs in `cell` (intp), saturating at `clip`, 1 to 255."""
    # numpy adds in place at a flat index of its own integer type several times faster than it makes a bincount.
    counts = np.zeros(cells, np.uint8)
    np.add.at(counts, cell, np.uint8(1))
    if len(cell) > 255 and np.add.reduce(counts, dtype=np.uint64) != len(cell):  # a cell went past 255 and began anew
        wide = np.zeros(cells, np.uint32)
        np.add.at(wide, cell, np.uint32(1))
        counts = np.minimum(wide, 255).astype(np.uint8)
    if clip < 255 and counts.max(initial=0) > clip:
        counts[np.flatnonzero(counts > clip)] = clip
    return counts


def signed_sum(cell: np.ndarray, p: np.ndarray, cells: int) -> np.ndarray:
    """int32 [cells]: ON less OFF events of each cell; p uint8 [n]."""
    total = np.zeros(cells, np.int32)
    np.add.at(total, cell, p.astype(np.int32) * 2 - 1)
    return total


def two_signs(x: np.ndarray) -> np.ndarray:
    """Signed [T, H, W] to look at: float32 [T, 2, H, W], what is negative in channel 0, positive in channel 1."""
    x = x.astype(np.float32)
    return np.stack([np.maximum(-x, 0), np.maximum(x, 0)], axis=1)
