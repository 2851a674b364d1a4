"""Count the spikes of every layer while a network runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..layers.watch import watch


class SpikeCounter:
    """Spikes of each layer over all calls within `counting`, of the batch together.

    An integer output k is k spikes, -1 is one spike. Counts are exact below 2^53, and stay on the device until read.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}  # float64 [2]: of |y|, of y
        self._neurons: dict[str, int] = {}

    @contextmanager
    def counting(self, layers: Mapping[str, nn.Module]) -> Iterator[None]:
        """Within the block outputs of `layers`, {name: neuron}, are counted."""
        names = {module: name for name, module in layers.items()}
        self._sums = {name: torch.zeros(2, dtype=torch.float64) for name in layers}
        self._neurons = dict.fromkeys(layers, 0)

        def add(layer: nn.Module, x: Tensor, y: Tensor) -> None:
            name = names[layer]
            image = tuple(range(2, y.dim()))  # below 2^24 neurons of an image, the sum over it is exact in float32
            net = y.sum(image).double().sum()
            total = y.abs().sum(image).double().sum() if getattr(layer, "signed", None) is not False else net
            self._sums[name] = self._sums[name].to(y.device) + torch.stack([total, net])
            self._neurons[name] = y[0].numel()

        with watch(names, add):
            yield

    def totals(self) -> dict[str, int]:
        """{layer: spikes, of both signs}."""
        return {name: int(sums[0]) for name, sums in self._sums.items()}

    def negatives(self) -> dict[str, int]:
        """{layer: negative spikes}."""
        return {name: round((sums[0] - sums[1]).item() / 2) for name, sums in self._sums.items()}

    def neurons(self) -> dict[str, int]:
        """{layer: its neurons in the last batch}."""
        return dict(self._neurons)
