"""Memoryless activations with the interface of a neuron: they turn any spiking detector into its ANN twin."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from registry import UserError

from .base import MultiStepNeuron
from .registry import register_neuron


class _Activation(MultiStepNeuron):
    spiking = False
    memoryless = True

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:  # type: ignore[override]
        return self.steps(x_seq)  # no membrane, so autocast may choose the precision


@register_neuron("relu")
class ReLU(_Activation):
    def steps(self, x_seq: Tensor) -> Tensor:
        return F.relu(x_seq)


@register_neuron("leaky_relu")
class LeakyReLU(_Activation):
    """Slope 0.1 below 0: Darknet's, which Spiking-YOLO converts."""

    def __init__(self, negative_slope: float = 0.1):
        super().__init__()
        if not 0 <= negative_slope < 1:
            raise UserError(f"negative_slope must be at least 0 and below 1, got {negative_slope}")
        self.negative_slope = negative_slope

    def steps(self, x_seq: Tensor) -> Tensor:
        return F.leaky_relu(x_seq, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope:g}"


@register_neuron("silu")
class SiLU(_Activation):
    def steps(self, x_seq: Tensor) -> Tensor:
        return F.silu(x_seq)
