"""Flat cell indices of events (`cell_indices`), and counts and signed sums per cell."""

from __future__ import annotations

import numpy as np

from ..recordings.interface import Events


def cell_indices(events: Events, edges: np.ndarray, starts: np.ndarray, polarity: int, width: int) -> np.ndarray:
    """intp [n]: the cells of the events edges[0] .. edges[-1] - 1, of which edges[i] .. edges[i + 1] - 1 are slice i.

    An event of slice i lands in starts[i] + p * polarity + y * width + x.
    """
    inside = slice(edges[0], edges[-1])
    starts = np.asarray(starts, np.int64)
    # In place and in 32 bits where possible: half the time of new 64-bit arrays.
    kind = "i4" if starts.max(initial=0) + polarity < 1 << 30 else "i8"
    cell = events.y[inside].astype(kind)
    cell *= width
    cell += events.x[inside]
    if polarity:
        channel = events.p[inside].astype(kind)
        channel *= polarity
        cell += channel
    cell += np.repeat(starts.astype(kind), np.diff(edges))
    return cell.astype(np.intp, copy=False)


def count(cell: np.ndarray, cells: int, clip: int = 255) -> np.ndarray:
    """uint8 [cells]: how often each number 0 .. cells - 1 occurs in `cell` (intp), saturating at `clip`, 1 to 255."""
    # np.add.at with an intp index is several times faster than np.bincount.
    counts = np.zeros(cells, np.uint8)
    np.add.at(counts, cell, np.uint8(1))
    most = int(counts.max(initial=0))
    if len(cell) > 255 and _total(counts, most) != len(cell):  # a cell overflowed 255
        wide = np.zeros(cells, np.uint32)
        np.add.at(wide, cell, np.uint32(1))
        counts, most = np.minimum(wide, 255).astype(np.uint8), 255
    if most > clip:
        counts[np.flatnonzero(counts > clip)] = clip
    return counts


def _total(counts: np.ndarray, most: int) -> int:
    """Sum of uint8 [n] with values up to `most`: eight at a time as uint64, over few enough rows not to overflow."""
    rows = 255 // max(most, 1)
    width = len(counts) // (8 * rows)
    body, rest = counts[: 8 * rows * width], counts[8 * rows * width :]
    folded = np.add.reduce(body.view(np.uint64).reshape(rows, width), axis=0)
    return int(np.add.reduce(folded.view(np.uint8), dtype=np.uint64) + np.add.reduce(rest, dtype=np.uint64))


def signed_sum(cell: np.ndarray, p: np.ndarray, cells: int) -> np.ndarray:
    """int32 [cells]: number of ON minus OFF events of each cell; p uint8 [n]."""
    total = np.zeros(cells, np.int32)
    np.add.at(total, cell, p.astype(np.int32) * 2 - 1)
    return total


def two_signs(x: np.ndarray) -> np.ndarray:
    """Signed [T, H, W] for display: float32 [T, 2, H, W], negative part in channel 0, positive part in channel 1."""
    x = x.astype(np.float32)
    return np.stack([np.maximum(-x, 0), np.maximum(x, 0)], axis=1)
