"""Share of the elements of each neuron layer that lie outside the window in which it passes a gradient on."""

from __future__ import annotations

from collections import Counter
from typing import cast

import torch
from torch import Tensor, nn

from neurons import MultiStepNeuron
from neurons.window import membrane, window

from .recorder import Recorder

NAMES = ("dead", "inside", "saturated", "dead_channels", "firing_rate")


class Saturation(Recorder):
    """`with Saturation(model) as saturation: model(x)`, then `saturation.shares()`.

    Of every neuron that has a window (`neurons.window`), by its membrane H before the reset, which decides, not by its
    input alone. For the input of a call H starts from the initial state, so within a `neurons.Stream` only the first
    call of a recording counts rightly.

    Args:
        calls: of each layer, the first ones are measured: H is computed again for them. None: all.
    """

    def __init__(self, model: nn.Module, calls: int | None = None):
        neurons = {n: m for n, m in model.named_modules() if isinstance(m, MultiStepNeuron) and window(m) is not None}
        super().__init__(neurons, {"counts": _counts})
        self._left: Counter[nn.Module] = Counter(dict.fromkeys(neurons.values(), calls or 1 << 62))

    def _add(self, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        if self._left[layer] > 0:
            super()._add(layer, x, y)
        self._left[layer] -= 1

    def shares(self) -> dict[str, dict[str, float]]:
        """{layer: shares}, in the order of the network:

        dead            of elements with H below the window, of ternary neurons with |H| below it: they do not fire, and
                        no gradient reaches what is before them, unless the surrogate has one outside its window
        inside          of those within it
        saturated       of those above it
        dead_channels   of channels all of whose elements are dead, in all images and steps
        firing_rate     of outputs that are not 0
        """
        return {layer: _shares(torch.tensor(sums["counts"])) for layer, sums in self.sums().items()}


def _counts(layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """[4, C] float64: elements of each channel, those below and above the window, and outputs that are not 0."""
    lower, upper, symmetric = cast(tuple, window(layer))
    h = membrane(layer, x)
    h = h.abs() if symmetric else h
    axis = 2 if x.dim() > 2 else -1
    others = tuple(i for i in range(x.dim()) if i != axis % x.dim())
    masks = torch.ones_like(y, dtype=torch.bool), h < lower, h > upper, y != 0
    return torch.stack([mask.sum(others) for mask in masks]).double()


def _shares(counts: Tensor) -> dict[str, float]:
    elements, below, above, fired = counts
    total = max(float(elements.sum()), 1.0)
    dead, saturated, rate = (float(part.sum()) / total for part in (below, above, fired))
    channels = float((below == elements).double().mean())
    return dict(zip(NAMES, (dead, 1 - dead - saturated, saturated, channels, rate), strict=True))
