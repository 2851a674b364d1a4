"""Stacked histogram: the counts of fine time bins as the channels of each step (RVT)."""

from __future__ import annotations

import numpy as np

from ..recordings.interface import Events
from .base import Representation, check_choice, check_clip, check_numbers, step_edges
from .cells import cell_indices, count
from .registry import register_representation


@register_representation("stacked_histogram")
class StackedHistogram(Representation):
    """uint8 [T, 2 * bins, H, W]: channel p * bins + b counts the events of polarity p in bin b of the step, saturating
    at `clip`. (Gehrig and Scaramuzza, "Recurrent Vision Transformers", 2023: bins 10, clip 10, steps of 50 ms.)

    span: "window": the bins are equal slices of the nominal step, so the step's counts are those of a window cut into
          T * bins. "events", RVT's: with d = max(t_last - t_first, 1) of the step's own events, an event lies in bin
          min(floor((t - t_first) * bins / d), bins - 1).

    Differs from RVT's code in that counts saturate where its 8 bits begin anew at 256, and in that bins are found in
    whole numbers, not float32, whose rounding puts some events at the border of two bins into the earlier one.
    """

    def __init__(self, num_steps: int, bins: int = 10, clip: int = 10, span: str = "window"):
        super().__init__(num_steps)
        check_numbers("stacked_histogram", 1, bins=bins)
        check_clip("stacked_histogram", clip)
        check_choice("stacked_histogram", "span", span, ("window", "events"))
        self.bins, self.clip, self.span, self.channels = bins, clip, span, 2 * bins

    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        steps, bins, area = self.num_steps, self.bins, height * width
        if self.span == "window":
            edges = step_edges(events, t0_us, t1_us, steps * bins, height, width)
        else:
            of_step = step_edges(events, t0_us, t1_us, steps, height, width)
            cuts = [_cut(events.t, a, b, bins) for a, b in zip(of_step[:-1], of_step[1:], strict=True)]
            edges = np.concatenate([*cuts, of_step[-1:]])
        starts = (np.arange(steps)[:, None] * 2 * bins + np.arange(bins)) * area
        cell = cell_indices(events, edges, starts.ravel(), bins * area, width)
        return count(cell, steps * 2 * bins * area, self.clip).reshape(steps, 2 * bins, height, width)

    def view(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), 2, self.bins, *x.shape[2:]).sum(2, dtype=np.int32)


def _cut(t: np.ndarray, start: int, stop: int, bins: int) -> np.ndarray:
    """int64 [bins]: the first event of each bin between the first and the last of the events start .. stop - 1."""
    if start == stop:
        return np.full(bins, start)
    length = max(int(t[stop - 1] - t[start]), 1)
    first = t[start] - (-np.arange(bins, dtype=np.int64) * length // bins)
    return start + np.searchsorted(t[start:stop], first)
