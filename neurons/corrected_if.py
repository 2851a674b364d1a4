"""Integrate-and-fire whose negative spikes take back premature positive ones."""

from __future__ import annotations

import torch
from torch import Tensor

from registry import UserError

from .registry import register_neuron
from .state import State
from .step import StepNeuron
from .surrogate import SurrogateSpec, parse_surrogate, spike


@register_neuron("corrected_if")
class CorrectedIF(StepNeuron):
    """S[t] = 1 if H[t] >= v_threshold, -1 if H[t] < 0 and N[t-1] > 0, else 0;  H[t] = V[t-1] + X[t]

    N[t] = N[t-1] + S[t], the spikes that stand, V[t] = H[t] - v_threshold S[t]. Where positive currents arrive before
    negative ones an integrate-and-fire neuron fires too often; this one takes such spikes back. sum(S) is never
    negative. Signed neuron of Fast-SNN (Hu et al., TPAMI 2023). Differs from its code, which takes back at H <= -0.001.

    Args: `v_init`: the potential before the first step, v_threshold / 2 where it replaces QCFS; `v_threshold`,
    `surrogate` as in `LIF`. The surrogate acts at both thresholds.
    """

    signed = True

    def __init__(self, v_threshold: float = 1.0, v_init: float = 0.0, surrogate: SurrogateSpec = "sigmoid"):
        super().__init__()
        if not v_threshold > 0:
            raise UserError(f"v_threshold must be positive, got {v_threshold}")
        self.v_threshold, self.v_init = v_threshold, v_init
        self.surrogate = parse_surrogate(surrogate)

    def initial_state(self, x: Tensor) -> State:
        return torch.full_like(x, self.v_init), torch.zeros_like(x)

    def step(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        assert isinstance(state, tuple)
        v, count = state
        h = v + x
        fired = spike(h - self.v_threshold, *self.surrogate)
        s = fired - spike(-h, *self.surrogate, inclusive=False) * count.clamp(max=1)
        return s, (torch.sub(h, s, alpha=self.v_threshold), count + s.detach())

    def extra_repr(self) -> str:
        return f"v_threshold={self.v_threshold:g}, v_init={self.v_init:g}"
