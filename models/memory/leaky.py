"""leaky: a leaky integrator with a long, learned time constant per channel."""

from __future__ import annotations

import torch
from torch import Tensor

from .cell import Cell
from .registry import MEMORIES


@MEMORIES.register("leaky")
class Leaky(Cell):
    """V[t] = (1 - 1/tau_c) V[t-1] + X[t] / tau_c

    Long time constants as memory: adaptive thresholds in LSNN (Bellec et al., NeurIPS 2018), whose adaptation decays
    slowly while the membrane does not. Differs: the slow variable is the membrane itself, which spikes do not reset,
    and the constants are learned per channel. Cell and place are ours.
    """

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        v = state + self.rate() * (x - state)
        return self.emit(v), v

    def initial_state(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)
