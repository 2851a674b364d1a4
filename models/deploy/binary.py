"""Binary inference of integer-valued networks: spikes 0..D as D binary steps, so convolutions see 0 and 1 only.

An integer s becomes a thermometer code of D slots, the first s of them 1, so that W s = sum over slots of W slot. Of
T logical steps convolutions see T * D slots; neurons run on logical steps, and the bias is added once per logical step.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from neurons.base import DynamicNeuron
from registry import UserError

from ..detector import Detector
from ..layers.spike_conv import RateConv, SpikeConv
from ..layers.time import mean_over_time
from ..layers.watch import watch
from .fuse import fuse


class BinarySpikeConv(nn.Module):
    """A fused SpikeConv, x [T, B, c1, H, W] -> [T, B, c2, H', W'], through T * D convolutions of 0 and 1.

    In place of a RateConv, which ends a head, it gives the mean of its output over T.

    `slots(x)` are the binary spikes of the neuron: [T * D, B, c1, H, W], at index t * D + d.
    """

    def __init__(self, layer: SpikeConv):
        super().__init__()
        neuron, conv = layer.neuron, layer.conv
        assert isinstance(neuron, DynamicNeuron) and isinstance(conv, nn.Conv2d) and conv.bias is not None
        self.neuron, self.D = neuron, neuron.dynamics.levels
        self.conv = copy.deepcopy(conv)
        self.conv.bias = None
        self.step_weights = self.conv._modules.pop("step_weights", None)  # of a learned read-out, on the sums of slots
        self.bias = nn.Parameter(conv.bias.detach().clone(), requires_grad=False)
        self.ends_head = isinstance(layer, RateConv)

    def slots(self, x: Tensor) -> Tensor:
        level = torch.arange(self.D, device=x.device, dtype=x.dtype).view(1, -1, *[1] * (x.ndim - 1))
        return (self.neuron(x).unsqueeze(1) > level).to(x.dtype).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        T, B = x.shape[:2]
        y = self.conv(self.slots(x).flatten(0, 1)).unflatten(0, (T, self.D, B)).sum(1)
        if self.step_weights is not None:
            y = self.step_weights(y)
        y = y + self.bias.view(-1, 1, 1)
        return mean_over_time(y) if self.ends_head else y


def to_binary(model: Detector) -> Detector:
    """A copy of `model` for evaluation that runs on binary spikes.

    Raises ValueError for a layer whose neuron emits anything but 0..D: graded neurons, ternary ones, ANN twins;
    and for a network with a memory.
    """
    if model.memory is not None:
        raise UserError("memory: binary inference does not cover its cells. Evaluate this network without --binary")
    binary = fuse(model)
    for name, layer in list(binary.named_modules()):
        if not isinstance(layer, SpikeConv) or isinstance(layer.neuron, nn.Identity):
            continue
        neuron = layer.neuron
        if not isinstance(neuron, DynamicNeuron) or neuron.dynamics.emit not in ("binary", "integer"):
            raise UserError(
                f"{name}: {type(neuron).__name__} does not emit integers 0..D, so there are no binary slots: leave "
                "--binary out, or train with model.neuron=ilif"
            )
        parent, _, own = name.rpartition(".")
        setattr(binary.get_submodule(parent), own, BinarySpikeConv(layer))
    if not any(isinstance(m, BinarySpikeConv) for m in binary.modules()):
        raise UserError(
            "this network has no SpikeConv layers: binary inference covers the SpikeYOLO family. Leave --binary out"
        )
    return binary


@torch.no_grad()
def binary_check(model: Detector, x: Tensor) -> dict[str, float]:
    """Largest difference between the logits of the binary and the integer network on x, and the share of ones.

    In float32 the order of sums differs, so that a potential close to a half may be rounded to the other integer. The
    difference in float64, where this is improbable, is that of the mapping itself.
    """
    integer, binary = fuse(model), to_binary(model)
    slots = [layer.conv for layer in binary.modules() if isinstance(layer, BinarySpikeConv)]
    ones, size = torch.zeros((), dtype=torch.int64, device=x.device), 0

    def count(conv: nn.Module, x: Tensor, y: Tensor) -> None:
        nonlocal ones, size
        ones, size = ones + x.count_nonzero(), size + x.numel()

    with watch(slots, count):
        found = {"largest logit difference": largest_difference(integer, binary, x)}
    found["share of ones"] = int(ones) / size
    exact = largest_difference(integer.double(), binary.double(), x.double())
    return found | {"largest logit difference in float64": exact}


@torch.no_grad()
def largest_difference(a: Detector, b: Detector, x: Tensor) -> float:
    """Between the logits of two networks on x."""
    return max(float((p - q).abs().max()) for p, q in zip(a.raw(x), b.raw(x), strict=True))
