"""When each layer fires: the share of its neurons that emit a spike, of each step, and of each level of integers."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from neurons import MultiStepNeuron

from .firing_rate import spiking_layers
from .recorder import Recorder


class SpikeTimes(Recorder):
    """`with SpikeTimes(model) as times: model(x)`, then `times.rates()`.

    An integer s of `ilif` stands for s binary spikes in D steps (Luo et al., ECCV 2024): of each step t it gives the
    shares of outputs with |s| >= 1, 2 .. D. Binary and ternary neurons have one share, of non-zero outputs.
    """

    def __init__(self, model: nn.Module):
        super().__init__(spiking_layers(model), {"spikes": _spikes, "neurons": lambda layer, x, y: y[0].numel()})

    def rates(self) -> dict[str, list[list[float]]]:
        """{layer: [T][levels] shares}, in the order of the network."""
        return {name: [[n / s["neurons"] for n in step] for step in s["spikes"]] for name, s in self.sums().items()}


def largest_output(layer: nn.Module) -> int:
    """D of integer neurons, else 1."""
    low, high = cast(MultiStepNeuron, layer).emits or (0, 1)
    return max(-low, high)


def _spikes(layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """[T, levels] float64: outputs y [T, ...] of each step that reach each level."""
    y = y.flatten(1).abs()
    return torch.stack([(y >= k).sum(1) for k in range(1, largest_output(layer) + 1)], 1).double()
