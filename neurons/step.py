"""A neuron written as one step of plain torch: the base class runs the steps, keeps float32, and streams."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import StatefulNeuron, without_autocast
from .multistep.formulas import compute_dtype
from .state import State


class StepNeuron(StatefulNeuron):
    """A neuron of any dynamics, from its `step`:

        class LIF(StepNeuron):
            def step(self, v, x):                       # [B, ...] each
                h = 0.5 * v + x
                s = spike(h - 1.0)                      # with a surrogate derivative
                return s, h * (1 - s.detach())

    The state is one tensor, or a tuple or dict of several (adaptive thresholds, synaptic currents, a recurrent spike),
    each [B, ...]; it may hold whole numbers. By default it is zeros like x: override `initial_state` for anything else.
    The base class loops over T, computes in float32 under autocast and float64 for float64 inputs, and carries the
    state from call to call within a `neurons.Stream`.

    Autograd keeps what each step computed, T times. A neuron whose equation is one of `neurons.multistep.dynamics`
    derives from `DynamicNeuron` instead: fused kernels, and bits in place of float32 for the backward pass.
    """

    def step(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        """(output, next state) of one step x [B, ...]. Must not write into `state` or `x`."""
        raise NotImplementedError

    def initial_state(self, x: Tensor) -> State:
        return torch.zeros_like(x)

    def advance(self, x_seq: Tensor, state: State | None, return_state: bool) -> tuple[Tensor, State | None]:
        y_seq = []
        with without_autocast(x_seq):
            for x in x_seq.to(compute_dtype(x_seq.dtype)):
                y, state = self.step(self.initial_state(x) if state is None else state, x)
                y_seq.append(y)
            return torch.stack(y_seq).to(x_seq.dtype), state
