"""Mixed-density stack: signed event sums over intervals of a step that double in length (RVT)."""

from __future__ import annotations

import numpy as np

from ..recordings.interface import Events
from .base import Representation, check_choice, check_clip, check_numbers, step_edges
from .cells import cell_indices, signed_sum, two_signs
from .registry import register_representation


@register_representation("mixed_density")
class MixedDensity(Representation):
    """int8 [T, bins, H, W]: channel b is the sum of 2 p - 1 over the events in bins 0 .. b, clamped to -clip .. clip.

    focus: "first": bin = floor(bins + log2(n)), at least 0 and at most bins - 1, of n = (t - t_first) / d with
           d = max(t_last - t_first, 1) of the step's own events: channel b holds about the first 2^(b + 1 - bins) of
           the step, the last channel all of it. That is what the code of RVT does (Gehrig and Scaramuzza, 2023).
           "last": the same with n = (t_last - t) / d, cumulative from the newest event, as Nam et al. ("Stereo depth
           from events cameras: concentrate and focus on the future", 2022) describe the stack.

    Differs from RVT's code in that sums are clamped where its 8 bits wrap, and in that bins are found in whole
    numbers, not float32.
    """

    dtype = np.int8

    def __init__(self, num_steps: int, bins: int = 10, clip: int = 32, focus: str = "first"):
        super().__init__(num_steps)
        check_numbers("mixed_density", 1, bins=bins)
        check_clip("mixed_density", clip, 127)
        check_choice("mixed_density", "focus", focus, ("first", "last"))
        self.bins, self.clip, self.focus, self.channels = bins, clip, focus, bins

    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        edges, area = step_edges(events, t0_us, t1_us, self.num_steps, height, width), height * width
        stack = np.empty((self.num_steps, self.bins, area), np.int8)
        for k, (start, stop) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            parts = start + self._cut(events.t[start:stop])
            order = np.arange(self.bins) if self.focus == "first" else np.arange(self.bins)[::-1]
            cell = cell_indices(events, parts, order * area, 0, width)
            total = signed_sum(cell, events.p[start:stop], self.bins * area).reshape(self.bins, area)
            np.cumsum(total, axis=0, out=total)
            stack[k] = np.clip(total, -self.clip, self.clip)
        return stack.reshape(self.num_steps, self.bins, height, width)

    def _cut(self, t: np.ndarray) -> np.ndarray:
        """int64 [bins + 1]: where the parts of a step's events begin, in order of time."""
        edges = np.zeros(self.bins + 1, np.int64)
        edges[-1] = len(t)
        if len(t):
            # Bin b >= 1 is n >= 2^(b - bins): from ceil(d / 2^(bins - b)) us on.
            length = max(int(t[-1] - t[0]), 1)
            border = np.array([-(-length >> (self.bins - b)) for b in range(1, self.bins)], np.int64)
            if self.focus == "first":
                edges[1:-1] = np.searchsorted(t, t[0] + border)
            else:
                edges[1:-1] = np.searchsorted(t, t[-1] - border[::-1], "right")
        return edges

    def view(self, x: np.ndarray) -> np.ndarray:
        return two_signs(x[:, -1])
