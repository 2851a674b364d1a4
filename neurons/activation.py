"""Memoryless activations under the neuron contract: with them any spiking detector becomes its ANN twin."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .base import MultiStepNeuron
from .registry import register_neuron


class _Activation(MultiStepNeuron):
    spiking = False

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:  # type: ignore[override]
        return self.steps(x_seq)  # no membrane, so no need for float32


@register_neuron("relu")
class ReLU(_Activation):
    def steps(self, x_seq: Tensor) -> Tensor:
        return F.relu(x_seq)


@register_neuron("silu")
class SiLU(_Activation):
    def steps(self, x_seq: Tensor) -> Tensor:
        return F.silu(x_seq)
