"""Forward hooks: call a function with the input and output of each call of given layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Observer = Callable[[nn.Module, Tensor, Tensor], None]


@contextmanager
def watch(layers: Iterable[nn.Module], see: Observer) -> Iterator[None]:
    """Within the block `see(layer, x, y)` is called, without gradients, after every call y = layer(x) of the `layers`.

    Nothing is copied or kept; `see` must not write into x and y.
    """

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        with torch.no_grad():
            see(layer, inputs[0], output)

    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
