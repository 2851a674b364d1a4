"""Memory: one recurrent cell per map, added to the map as a residual that starts at 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..layers.spike_conv import SpikeConv, batch_norm
from .cell import Cell


class MemoryBlock(nn.Module):
    """x [T, B, C, H, W] -> x + BN(P * cell(BN(W * neuron(x)))), of the same shape.

    W is a 3 x 3 convolution of the network's spikes, P a 1 x 1 convolution of the cell's: both only add weights where
    there are spikes. The gain of the last BatchNorm is 0 at the start, so that a network with trained weights begins
    with the outputs that it has without the memory (Goyal et al., 2017, for residual blocks).
    """

    def __init__(self, cell: Cell, neuron: nn.Module):
        super().__init__()
        C, maps = cell.channels, cell.maps * cell.channels
        self.input = SpikeConv(neuron, nn.Conv2d(C, maps, 3, padding=1, bias=False), batch_norm(maps))
        last = batch_norm(C)
        nn.init.zeros_(last.weight)
        self.output = SpikeConv(cell, nn.Conv2d(C, C, 1, bias=False), last)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.output(self.input(x))


class Memory(nn.Module):
    """Maps [T, B, C_l, H_l, W_l], finest first -> maps of the same shapes: the first ones through a `MemoryBlock` each.

    The state of the cells goes from step to step, and within a `neurons.Stream` from call to call.
    """

    def __init__(self, cells: Sequence[Cell], neuron: Callable[[], nn.Module]):
        super().__init__()
        self.blocks = nn.ModuleList(MemoryBlock(cell, neuron()) for cell in cells)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        kept = len(self.blocks)
        return [block(x) for block, x in zip(self.blocks, maps, strict=False)] + list(maps[kept:])
