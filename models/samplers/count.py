"""Counts: the bins of a window summed, with nothing learned: what the other samplers are measured against."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .base import Carried, Sampler
from .registry import SAMPLERS


@SAMPLERS.register("count")
class Count(Sampler):
    """The readout of the bins themselves: their sum, their mean, or the last one read. No weights, no spikes."""

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(channels, **kwargs)
        self.memoryless = True

    def sample(self, bins: Tensor, state: Carried | None) -> tuple[Tensor, Carried]:
        frame = bins[-1] if self.readout == "last" else bins.mean(0) if self.readout == "avg" else bins.sum(0)
        return frame[None], {}
