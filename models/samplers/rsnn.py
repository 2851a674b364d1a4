"""RSNN: a gated recurrent spiking neuron per pixel and channel, whose potentials are summed over the window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .base import Carried
from .cells import apply, orthogonal, stack
from .registry import SAMPLERS
from .spiking import Potentials, SpikingSampler, fire


@SAMPLERS.register("rsnn")
class RSNN(SpikingSampler):
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

    def potentials(self, cells: Tensor, state: Carried | None) -> Iterator[Potentials]:
        # From rest the gate's input is zeros: one image instead of B, and there is no potential to keep.
        s = torch.zeros_like(cells[0, :1]) if state is None else state["s"]
        v = None if state is None else state["v"]
        for x in self.over_bins(self.input, cells):
            g, u = (x + apply(self.gate, s)).chunk(2, -1)
            if v is not None:
                u = g.sigmoid() * v + u
            s, v = fire(u)
            yield u, s, v
