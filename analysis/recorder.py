"""Recorder: running sums of measures of layer inputs and outputs, in constant memory for any number of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Self

import torch
from torch import Tensor, nn

from models.layers.watch import watch

# (layer, x, y) of one call y = layer(x) -> a number, or a tensor on the layer's device, to be added up
Measure = Callable[[nn.Module, Tensor, Tensor], Tensor | float]
Sums = dict[str, dict[str, Any]]  # {layer: {measure: sum, a number or nested lists}}


class Recorder:
    """`with Recorder(layers, measures) as seen: model(x)`, then `seen.sums()`.

    Another quantity of a layer (operations, spikes of its input) is one more measure. Sums stay on the device of the
    layer, so that no call waits for a GPU, and memory does not grow with the number of batches. Calls of a layer add
    up, also within a `neurons.Stream`.

    Args:
        layers: {name: module}.
        measures: {name: function of a layer and the input and output of one of its calls}.
    """

    def __init__(self, layers: Mapping[str, nn.Module], measures: Mapping[str, Measure]):
        self._names = {module: name for name, module in layers.items()}
        self._measures = dict(measures)
        self._sums: dict[str, dict[str, Tensor | float]] = {name: {} for name in layers}
        self._watching: AbstractContextManager[Any] | None = None

    def __enter__(self) -> Self:
        self._watching = watch(self._names, self._add)
        self._watching.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        assert self._watching is not None
        self._watching.__exit__(*exception)

    def _add(self, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        sums = self._sums[self._names[layer]]
        for name, measure in self._measures.items():
            sums[name] = sums.get(name, 0) + measure(layer, x, y)

    def sums(self) -> Sums:
        """{layer: {measure: sum over all calls}}, of the layers that were called, in the order given; plain values."""
        return {
            layer: {name: value.tolist() if isinstance(value, Tensor) else value for name, value in sums.items()}
            for layer, sums in self._sums.items()
            if sums
        }

    def merge(self, others: Iterable[Sums]) -> None:
        """Replace the sums by the total of `others`: the `sums()` of all processes, this one's among them."""
        total: dict[str, dict[str, Tensor | float]] = {layer: {} for layer in self._sums}
        for sums in others:
            for layer, values in sums.items():
                for name, value in values.items():
                    value = torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value
                    total[layer][name] = total[layer].get(name, 0) + value
        self._sums = total
