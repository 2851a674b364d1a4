"""Cell: what recurrent cells of a memory share, a time constant per channel and outputs of D levels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from neurons import StepNeuron
from registry import UserError


class Cell(StepNeuron):
    """Currents [T, B, maps * C, H, W] -> integers 0..D [T, B, C, H, W], from a potential V that no output resets:

    S[t] = round(clip(D V[t], 0, D)), with the derivative D where 0 <= D V <= D, else 0

    A spike that reset V would erase what is to be remembered. As the output of I-LIF, S stands for up to D binary
    spikes. Without `spiking` it is not rounded.

    Args:
        channels: C.
        spiking: False in ANN twins.
        tau: longest time constant at the start, in steps, more than 2. Those of the channels are spread evenly on a
            logarithmic scale from 2 to `tau`, and learned: 1/tau = sigmoid(w), as in PLIF (Fang et al., 2021), which
            has one for a layer.
        D: levels.
    """

    signed = False
    maps = 1  # currents per channel

    def __init__(self, channels: int, spiking: bool = True, *, tau: float = 16.0, D: int = 4):
        super().__init__()
        if not 2 < tau < math.inf:
            raise UserError(f"tau = {tau}: give a number of steps above 2")
        if D < 1:
            raise UserError(f"D = {D}: give at least 1")
        self.channels, self.spiking, self.D = channels, spiking, int(D)
        self.w = nn.Parameter(-(torch.logspace(math.log10(2.0), math.log10(tau), channels) - 1).log())

    def rate(self) -> Tensor:
        """1/tau [C, 1, 1]."""
        return self.w.sigmoid().view(-1, 1, 1)

    def emit(self, v: Tensor) -> Tensor:
        """S of the potential v."""
        s = (self.D * v).clamp(0, self.D)
        return s + (s.round() - s).detach() if self.spiking else s

    def extra_repr(self) -> str:
        return f"channels={self.channels}, D={self.D}, spiking={self.spiking}"
