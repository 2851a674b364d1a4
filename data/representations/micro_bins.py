"""Micro-bins: counts of fine time bins on an axis of their own, for learned samplers (EAS-SNN)."""

from __future__ import annotations

import numpy as np

from ..recordings.interface import Events
from .base import Representation, check_choice, check_numbers, step_edges
from .cells import cell_indices, count
from .registry import register_representation


@register_representation("micro_bins")
class MicroBins(Representation):
    """uint8 [T, bins, 2, H, W]: numbers of OFF (0) and ON (1) events in each bin of each step, oldest first, saturating
    at 255. (Wang et al., "EAS-SNN", 2024: T 1 and 4 bins over 200 ms.)

    span: "window": the bins are equal slices of the nominal step. "events", as published: with the whole number
          w = max(floor((t_last - t_first) / bins), 1) of the step's own events, bin b holds the times
          t_first + b * w <= t < t_first + (b + 1) * w, and later events are dropped.

    The published sampler processes the newest bin first; the reversal belongs to the sampler. Differs from the
    published code in that a window without events stays empty; there it is replaced by an earlier one.
    """

    channels = 2

    def __init__(self, num_steps: int, bins: int = 4, span: str = "window"):
        super().__init__(num_steps)
        check_numbers("micro_bins", 1, bins=bins)
        check_choice("micro_bins", "span", span, ("window", "events"))
        self.bins, self.span = bins, span

    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        steps, bins, area = self.num_steps, self.bins, height * width
        shape = steps, bins, 2, height, width
        if self.span == "window":
            edges = step_edges(events, t0_us, t1_us, steps * bins, height, width)
            cell = cell_indices(events, edges, np.arange(steps * bins) * (2 * area), area, width)
            return count(cell, int(np.prod(shape))).reshape(shape)
        edges = step_edges(events, t0_us, t1_us, steps, height, width)
        frames = np.empty((steps, bins * 2 * area), np.uint8)
        for k, (start, stop) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            t = events.t[start:stop]
            slices = np.zeros(bins + 1, np.int64)
            if len(t):
                slice_us = max(int(t[-1] - t[0]) // bins, 1)
                slices = np.searchsorted(t, t[0] + np.arange(bins + 1) * slice_us)
            cell = cell_indices(events, start + slices, np.arange(bins) * (2 * area), area, width)
            frames[k] = count(cell, frames.shape[1])
        return frames.reshape(shape)

    def view(self, x: np.ndarray) -> np.ndarray:
        return x.sum(1, dtype=np.int32)
