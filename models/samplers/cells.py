"""Convolutions of few channels, computed on cells of 2 x 2 pixels: four times the channels on a quarter of the grid.

A convolution of 2 or 4 channels leaves most of a vector unit idle. Of cells it is the same sum in another order, with
some products with 0, and several times faster.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def to_cells(x: Tensor) -> Tensor:
    """[..., C, H, W] -> [..., H / 2, W / 2, 4 C], number 4 c + 2 a + b the pixels (2 y + a, 2 x + b) of channel c. With
    an odd H or W each pixel is its own cell: [..., H, W, C]."""
    H, W = x.shape[-2:]
    if H % 2 or W % 2:
        return x.movedim(-3, -1)
    corners = [x[..., a::2, b::2].movedim(-3, -1).unsqueeze(-1) for a in (0, 1) for b in (0, 1)]
    return torch.cat(corners, -1).flatten(-2)


def to_pixels(cells: Tensor, channels: int) -> Tensor:
    """The inverse: [..., h, w, 4 C], or [..., H, W, C], -> [..., C, H, W]; C = `channels`."""
    maps = cells.movedim(-1, -3)
    return maps if cells.shape[-1] == channels else F.pixel_shuffle(maps, 2)


class CellConv(nn.Conv2d):
    """A k x k convolution, k odd, of stride 1 and zero padding, [N, c1, H, W] -> [N, c2, H, W], also of cells
    [N, 4 c1, h, w] -> [N, 4 c2, h, w]."""

    def __init__(self, c1: int, c2: int, k: int):
        super().__init__(c1, c2, k, padding=k // 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == self.in_channels:
            return super().forward(x)
        weight = weight_of_cells(self.weight)
        assert self.bias is not None
        return F.conv2d(x, weight, self.bias.repeat_interleave(4), padding=weight.shape[-1] // 2)


def weight_of_cells(weight: Tensor) -> Tensor:
    """[c2, c1, k, k] -> [4 c2, 4 c1, K, K]: each pixel of a cell sees the kernel at its own place in the 2 K x 2 K
    pixels of K x K cells, and zeros beside it."""
    k = weight.shape[-1]
    reach = -(-(k // 2) // 2)  # cells to each side
    K = 2 * reach + 1
    places = [(left, 2 * K - k - left) for left in (2 * reach - k // 2, 2 * reach - k // 2 + 1)]
    kernels = [F.pad(weight, (*across, *down)) for down in places for across in places]
    return F.pixel_unshuffle(torch.stack(kernels, 1).flatten(0, 1), 2)


def stack(c1: int, c2: int, k: int, depth: int) -> nn.Sequential:
    """`depth` convolutions k x k with bias, c1 to c2 and then c2 to c2 channels, and ReLU between them."""
    layers: list[nn.Module] = [CellConv(c1, c2, k)]
    for _ in range(depth - 1):
        layers += [nn.ReLU(inplace=True), CellConv(c2, c2, k)]
    return nn.Sequential(*layers)


def orthogonal(layers: nn.Sequential) -> nn.Sequential:
    """Initialised as the published input stacks: orthogonal weights of gain sqrt(2), biases by default."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain=math.sqrt(2))
    return layers


def apply(layers: nn.Module, cells: Tensor) -> Tensor:
    """A stack of `CellConv` on cells [N, h, w, c] -> [N, h, w, c']. In memory they are channels_last."""
    return layers(cells.movedim(-1, 1)).movedim(1, -1)
