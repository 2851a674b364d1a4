"""Facts of a row that do not depend on the sample: sizes of a layer, dynamics of a neuron."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from models.memory.cell import Cell
from models.samplers.spiking import Fired
from neurons import MultiStepNeuron
from neurons.base import DynamicNeuron
from neurons.corrected_if import CorrectedIF

from ..operations import TRANSPOSED


@dataclass(frozen=True)
class Facts:
    """Of one step and image.

    name, kind: of the layer: convolution, linear, neuron, or an operation between layers (sum, max_pool, ...)
    shape:   of the output, [C, H, W]
    inputs, outputs: elements of a map
    weights, biases: numbers that are stored; without the bias that a BatchNorm becomes
    taps:    of the kernel
    fan_out: outputs that one input reaches through one tap: output channels of its group
    leak:    of a neuron, none, shift (a power of two) or multiply
    memory:  whether it has a membrane from step to step
    spiking: whether it emits spikes
    levels:  the largest magnitude that it emits, 0 where that is not known
    signed:  whether it may emit negative spikes
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    inputs: float
    outputs: float
    weights: int = 0
    biases: int = 0
    taps: int = 1
    fan_out: int = 1
    leak: str = "none"
    memory: bool = False
    spiking: bool = False
    levels: int = 0
    signed: bool = False

    @property
    def part(self) -> str:
        """encoder, network, memory or head."""
        return self.name.partition(".")[0]


def facts_of_layer(name: str, layer: nn.Module, x: Tensor, y: Tensor) -> Facts:
    """Of a layer y = layer(x) on maps [rows, ...]."""
    weight: Any = layer.weight
    linear = isinstance(layer, nn.Linear)
    groups: Any = 1 if linear else layer.groups
    out = y.shape[-1] if linear else y.shape[1]
    return Facts(
        name, "linear" if linear else "convolution", tuple(y.shape[-1:] if linear else y.shape[1:]),
        float(x[0].numel()), float(y[0].numel()), weight.numel(), 0 if layer.bias is None else out,
        1 if linear else math.prod(weight.shape[2:]),
        int(out // groups) if not isinstance(layer, TRANSPOSED) else weight.shape[1],
    )  # fmt: skip


def facts_of_neuron(name: str, neuron: MultiStepNeuron, x: Tensor, images: int) -> Facts:
    """Of a neuron called with x [T, B, ...]."""
    steps = len(x) if x.dim() > 2 else 1
    outputs = x.numel() / (steps * images)
    levels = max(map(abs, neuron.emits or (0,)))
    if isinstance(neuron, Cell):
        levels = neuron.D
    elif isinstance(neuron, (CorrectedIF, Fired)):
        levels = 1
    return Facts(
        name, "neuron", tuple(x.shape[2:]), outputs, outputs, leak=leak_of(neuron),
        memory=isinstance(neuron, Fired) or not neuron.memoryless, spiking=neuron.spiking, levels=levels,
        signed=bool(neuron.signed),
    )  # fmt: skip


def leak_of(neuron: MultiStepNeuron) -> str:
    """What a step costs besides the sum: none, shift or multiply. Unknown neurons multiply."""
    if isinstance(neuron, DynamicNeuron):
        dynamics = neuron.dynamics
        if neuron.w is not None:
            return "multiply"
        if dynamics.memoryless or dynamics.tau == math.inf:
            return "none"
        factors = [dynamics.keep, *([dynamics.gain] if dynamics.decay_input else [])]
        return "shift" if all(math.frexp(factor)[0] == 0.5 for factor in factors) else "multiply"
    return "none" if neuron.memoryless or isinstance(neuron, CorrectedIF) else "multiply"


def facts_of_map(name: str, kind: str, x: Tensor, y: Tensor, images: float) -> Facts:
    """Of an operation y = f(x, ...) on maps of `images` images, those of several steps apart."""
    return Facts(name, kind, tuple(y.shape[-3:]), x.numel() / images, y.numel() / images)
