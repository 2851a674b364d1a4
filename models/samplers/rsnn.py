"""RSNN: a gated recurrent spiking neuron per pixel and channel, whose potentials are summed over the window."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .base import Carried, Fired, Sampler, fire, orthogonal, stack
from .registry import SAMPLERS


@SAMPLERS.register("rsnn")
class RSNN(Sampler):
    """(g, c)[t] = input(bin[t]) + gate(S[t-1])
    U[t] = sigmoid(g[t]) V[t-1] + c[t],  S[t] = [U[t] > 1],  V[t] = U[t] (1 - S[t])

    with `input` and `gate` two stacks of convolutions from C to 2 C channels, g the first half of them. The surrogate
    derivative of S is a rectangle of width 1. The frame is the readout of all U. EAS-SNN (Wang et al., ECCV 2024), the
    representation without adaptive sampling that it compares with. `out_steps`, `rpd` and `sat` have no effect.
    """

    published = {"input": "embedding.input_conv.layer", "gate": "embedding.gate_conv"}

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(channels, **kwargs)
        self.input = orthogonal(stack(channels, 2 * channels, self.k, self.depth))
        self.gate = stack(channels, 2 * channels, self.k, self.depth)
        for layer in self.gate:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="sigmoid")
        self.fired = Fired()

    def initial_state(self, x: Tensor) -> Carried:
        rest = torch.zeros_like(x[:, 0])
        return {"v": rest, "s": rest}

    def potentials(self, bins: Tensor, state: Carried | None) -> tuple[Tensor, Tensor, Tensor]:
        """U, S and V [Tm, B, C, H, W] of bins of this shape."""
        inputs = self.input(bins.flatten(0, 1)).unflatten(0, bins.shape[:2])
        # From rest the gate's input is zeros: one image instead of B, and there is no potential to keep.
        s = torch.zeros_like(bins[0, :1]) if state is None else state["s"]
        v = None if state is None else state["v"]
        steps = []
        for x in inputs:
            g, u = (x + self.gate(s)).chunk(2, 1)
            if v is not None:
                u = g.sigmoid() * v + u
            s, v = fire(u)
            steps.append((u, s, v))
        us, ss, vs = (torch.stack(values) for values in zip(*steps, strict=True))
        return us, self.fired(ss), vs

    def sample(self, bins: Tensor, state: Carried | None) -> tuple[Tensor, Carried]:
        u, s, v = self.potentials(bins, state)
        return self.of_window(u, v), {"v": v[-1], "s": s[-1]}
