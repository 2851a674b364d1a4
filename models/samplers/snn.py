"""SNN: a leaky integrate-and-fire neuron per pixel and channel, whose potentials are summed over the window."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .base import Carried, Fired, Sampler, fire, orthogonal, stack
from .registry import SAMPLERS


@SAMPLERS.register("snn")
class SNN(Sampler):
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
        self.fired = Fired()

    def initial_state(self, x: Tensor) -> Carried:
        return {"v": torch.zeros_like(x[:, 0])}

    def sample(self, bins: Tensor, state: Carried | None) -> tuple[Tensor, Carried]:
        v = torch.zeros_like(bins[0]) if state is None else state["v"]
        keep = self.decay.sigmoid()
        steps = []
        for x in self.input(bins.flatten(0, 1)).unflatten(0, bins.shape[:2]):
            u = keep * v + x
            s, v = fire(u)
            steps.append((u, s, v))
        us, ss, vs = (torch.stack(values) for values in zip(*steps, strict=True))
        self.fired(ss)
        return self.of_window(us, vs), {"v": v}
