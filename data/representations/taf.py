"""Temporal active focus (TAF): ages of the latest time bins with events of each pixel (FRLW-EvD)."""

from __future__ import annotations

import numpy as np

from ..recordings.interface import Events
from .base import Representation, check_numbers, step_edges, step_times
from .cells import cell_indices
from .registry import register_representation

SPAN = 8.7  # log1p of the greatest age, 6000 bins, to one decimal


@register_representation("taf")
class Taf(Representation):
    """uint8 [T, 2 * depth, H, W]: temporal active focus (Liu et al., "Motion robust high-speed light-weighted object
    detection with event camera", 2023).

    At the end of a step, time runs back in bins of `bin_us`. Of each pixel and polarity the `depth` latest bins with
    events are kept, the latest in channel p * depth, the one before in p * depth + 1, and so on. A bin's value is
    255 * max(0, 1 - log1p(a) / 8.7), rounded to the nearest, where a is the mean age of its events in units of
    `bin_us`; 0 where there is none. The network takes x / 255.

    Events of the window up to the end of the step count, and those of the last `history_us` before the window.

    Differs from the paper in that bins are aligned to the end of each step (equal where steps are multiples of
    `bin_us`, as in the paper), and in that the queues start empty at `history_us` before each window.
    """

    scale = 1 / 255

    def __init__(self, num_steps: int, depth: int = 8, bin_us: int = 10_000, history_us: int = 0):
        super().__init__(num_steps)
        check_numbers("taf", 1, depth=depth, bin_us=bin_us)
        check_numbers("taf", 0, history_us=history_us)
        self.depth, self.bin_us, self.history_us, self.channels = depth, bin_us, history_us, 2 * depth

    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        edges, area = step_edges(events, t0_us, t1_us, self.num_steps, height, width), height * width
        start = int(np.searchsorted(events.t, t0_us - self.history_us, "right"))
        pixel = cell_indices(events, np.array([start, edges[-1]]), np.zeros(1), self.depth * area, width)
        frames = np.zeros((self.num_steps, self.channels * area), np.uint8)
        for k, end in enumerate(step_times(t0_us, t1_us, self.num_steps)[1:]):
            stop = int(edges[k + 1])
            self._fill(frames[k], end - events.t[start:stop], pixel[: stop - start], area)
        return frames.reshape(self.num_steps, self.channels, height, width)

    def _fill(self, frame: np.ndarray, age: np.ndarray, pixel: np.ndarray, area: int) -> None:
        """age: int64 [n] us; pixel: intp [n], the event's cell of the latest bin in `frame`."""
        if not len(age):
            return
        past = age // self.bin_us
        order = np.lexsort((past, pixel))
        age, pixel, past = age[order], pixel[order], past[order]
        # Runs of one pixel and bin, the latest bin of a pixel first.
        first = np.flatnonzero((np.diff(pixel, prepend=-1) != 0) | (np.diff(past, prepend=-1) != 0))
        mean = np.add.reduceat(age, first) / np.diff(first, append=len(age)) / self.bin_us
        pixel = pixel[first]
        place = np.arange(len(first))
        rank = place - np.maximum.accumulate(np.where(np.diff(pixel, prepend=-1) != 0, place, 0))
        kept = rank < self.depth
        value = 255 * np.maximum(0, 1 - np.log1p(mean[kept]) / SPAN)
        frame[pixel[kept] + rank[kept] * area] = np.rint(value)

    def view(self, x: np.ndarray) -> np.ndarray:
        return x[:, :: self.depth] / np.float32(255)
