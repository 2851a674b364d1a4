"""gated: a leaky integrator whose spiking gates decide, by what was and what comes, to forget and to admit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurons import spike

from .cell import Cell
from .registry import MEMORIES

FORGET, ADMIT = 2.0, 1.0  # biases of the gates at the start: mostly open


@MEMORIES.register("gated")
class Gated(Cell):
    """(f, i, g)[t] = X[t] + R * S[t-1] + b
    V[t] = [f >= 0] (1 - 1/tau_c) V[t-1] + [i >= 0] g / tau_c

    with R a 3 x 3 convolution of the cell's own spikes, so that what it remembers can move with its object. R is 0 at
    the start, where nearly all gates are open: then V is that of `leaky`. Surrogate derivative of a gate: atan, alpha
    2. Without `spiking` a gate is sigmoid(f).

    ConvLSTM (Shi et al., NeurIPS 2015) on the maps of a detector: EvRT-DETR (arXiv 2412.02890). Gates that are spikes:
    Lotfi Rezaabad and Vishwanath, ICONS 2020. Differs from both: no output gate (the BatchNorm behind it has a gain),
    V leaks and is neither squashed nor a spike, S has D levels; from the sampler `rsnn` of EAS-SNN, whose gate is a
    sigmoid and whose spikes reset V.
    """

    maps = 3

    def __init__(self, channels: int, spiking: bool = True, **kwargs):
        super().__init__(channels, spiking, **kwargs)
        self.recurrent = nn.Conv2d(channels, 3 * channels, 3, padding=1)
        nn.init.zeros_(self.recurrent.weight)
        assert self.recurrent.bias is not None
        with torch.no_grad():
            for bias, value in zip(self.recurrent.bias.chunk(3), (FORGET, ADMIT, 0.0), strict=True):
                bias.fill_(value)

    def step(self, state: dict[str, Tensor], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:  # type: ignore[override]
        f, i, g = (x + self.recurrent(state["s"])).chunk(3, 1)
        rate = self.rate()
        v = self.gate(f) * (1 - rate) * state["v"] + self.gate(i) * rate * g
        s = self.emit(v)
        return s, {"v": v, "s": s}

    def gate(self, x: Tensor) -> Tensor:
        return spike(x, "atan") if self.spiking else x.sigmoid()

    def initial_state(self, x: Tensor) -> dict[str, Tensor]:
        return dict.fromkeys(("v", "s"), torch.zeros_like(x[:, : self.channels]))
