"""The graded neuron of the published EMS-YOLO networks: a leaky membrane that emits SiLU(H) instead of spikes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import MultiStepNeuron
from .registry import register_neuron


@register_neuron("graded_silu")
class GradedSiLU(MultiStepNeuron):
    """S[t] = SiLU(H[t]),  H[t] = (1 - 1/tau) C[t-1] (1 - stopgrad(S[t-1])) + X[t]

    Its output is real valued: what it feeds are multiply-accumulate layers, not spike-driven ones. In the published
    code (EMS-YOLO, `mem_update(act=True)`) the membrane carried on is C = H as written, but every built or loaded
    network sets `SiLU.inplace`, which overwrites the membrane, so that C = SiLU(H): that is what the published weights
    were trained with, and `inplace=True` here. Nothing is written into the input in either form.
    """

    spiking = False

    def __init__(self, tau: float = 4 / 3, inplace: bool = True):
        super().__init__()
        if not tau > 1:
            raise ValueError(f"tau must be above 1 (the leak factor is 1 - 1/tau), got {tau}")
        self.tau, self.inplace = tau, inplace

    def steps(self, x_seq: Tensor) -> Tensor:
        leak = 1 - 1 / self.tau
        s_seq = [F.silu(x_seq[0])]
        carried = s_seq[0] if self.inplace else x_seq[0]
        for x in x_seq[1:]:
            h = leak * carried * (1 - s_seq[-1].detach()) + x
            s_seq.append(F.silu(h))
            carried = s_seq[-1] if self.inplace else h
        return torch.stack(s_seq)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, inplace={self.inplace}"
