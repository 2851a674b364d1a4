"""Time surface: exponential decay of the time since each pixel's last event."""

from __future__ import annotations

import numpy as np

from ..recordings.interface import Events
from .base import Representation, check_numbers, step_edges, step_times
from .cells import cell_indices
from .registry import register_representation


@register_representation("time_surface")
class TimeSurface(Representation):
    """float32 [T, 2, H, W]: exp(-(t_ref - t_last) / tau_us), with t_ref the end of the step and t_last the time of the
    latest event of that polarity at that pixel up to then; 0 where there was none. (Lagorce et al., "HOTS", 2017;
    tau 50 ms as EAS-SNN has it on Gen1.)

    Events of earlier steps count in later ones, and so do those of the last `history_us` before the window, none by
    default.
    """

    channels = 2
    dtype = np.float32

    def __init__(self, num_steps: int, tau_us: float = 50_000, history_us: int = 0):
        super().__init__(num_steps)
        check_numbers("time_surface", 1.0, tau_us=tau_us)
        check_numbers("time_surface", 0, history_us=history_us)
        self.tau_us, self.history_us = tau_us, history_us

    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        edges, area = step_edges(events, t0_us, t1_us, self.num_steps, height, width), height * width
        ends = step_times(t0_us, t1_us, self.num_steps)[1:]
        edges[0] = np.searchsorted(events.t, t0_us - self.history_us, "right")
        cell = cell_indices(events, edges, np.zeros(self.num_steps), area, width)
        last = np.full(2 * area, -np.inf)
        surface = np.empty((self.num_steps, 2 * area), np.float32)
        for k, end in enumerate(ends):
            step = slice(edges[k], edges[k + 1])
            last[cell[step.start - edges[0] : step.stop - edges[0]]] = events.t[step]  # the last one stays
            np.exp((last - end) / self.tau_us, out=surface[k], casting="same_kind")
        return surface.reshape(self.num_steps, 2, height, width)
