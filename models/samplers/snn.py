"""SNN: a leaky integrate-and-fire neuron per pixel and channel, whose potentials are summed over the window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .base import Carried
from .cells import orthogonal, stack
from .registry import SAMPLERS
from .spiking import Potentials, SpikingSampler, fire


@SAMPLERS.register("snn")
class SNN(SpikingSampler):
    """U[t] = sigmoid(w) V[t-1] + input(bin[t]),  S[t] = [U[t] > 1],  V[t] = U[t] (1 - S[t])

    with a stack of convolutions of C channels and one learned w, 0 at the start. The surrogate derivative of S is a
    rectangle of width 1. The frame is the readout of all U. EAS-SNN (Wang et al., ECCV 2024), a representation that it
    compares with. `out_steps`, `rpd` and `sat` have no effect.
    """

    published = {"input": "embedding.embedding_conv.layer", "decay": "embedding.cell.decay"}

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(channels, **kwargs)
        self.input = orthogonal(stack(channels, channels, self.k, self.depth))
        self.decay = nn.Parameter(torch.tensor(0.0))

    def potentials(self, cells: Tensor, state: Carried | None) -> Iterator[Potentials]:
        v = torch.zeros_like(cells[0]) if state is None else state["v"]
        keep = self.decay.sigmoid()
        for x in self.over_bins(self.input, cells):
            u = keep * v + x
            s, v = fire(u)
            yield u, s, v
