"""Blocks of YOLOX: units, bottlenecks, cross-stage partial layers (CSP), pyramid pooling, stems.

Ge et al., "YOLOX: Exceeding YOLO Series in 2021". In a spiking network a neuron is in place of every activation, so
that a shortcut adds spikes (Fang et al., "Deep Residual Learning in Spiking Neural Networks", NeurIPS 2021) and its sum
can exceed 1. `make` gives one new neuron per call. Parts have the names of the published state dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv_unit import ConvUnit
from .layout import concat
from .resample import crop_to
from .time import over_time

Factory = Callable[[], nn.Module]


def unit(c1: int, c2: int, neuron: nn.Module, k: int = 1, s: int = 1, groups: int = 1) -> ConvUnit:
    """Convolution - BatchNorm - neuron, with YOLOX's constants of BatchNorm."""
    return ConvUnit(c1, c2, neuron, k, s, eps=1e-3, momentum=0.03, groups=groups)


class DepthwiseUnit(nn.Module):
    """A k x k unit per channel, then a 1 x 1 unit: the convolution of the size "nano"."""

    def __init__(self, c1: int, c2: int, make: Factory, k: int, s: int = 1):
        super().__init__()
        self.dconv, self.pconv = unit(c1, c1, make(), k, s, groups=c1), unit(c1, c2, make())

    def forward(self, x: Tensor) -> Tensor:
        return self.pconv(self.dconv(x))


def conv(c1: int, c2: int, make: Factory, k: int, s: int = 1, depthwise: bool = False) -> ConvUnit | DepthwiseUnit:
    """A k x k unit, or a `DepthwiseUnit`."""
    return DepthwiseUnit(c1, c2, make, k, s) if depthwise else unit(c1, c2, make(), k, s)


class Bottleneck(nn.Module):
    """y = conv2(conv1(x)) + x, or without x: a 1 x 1 and a 3 x 3 unit of c channels."""

    def __init__(self, c: int, make: Factory, shortcut: bool = True, depthwise: bool = False):
        super().__init__()
        self.conv1, self.conv2, self.shortcut = unit(c, c, make()), conv(c, c, make, 3, 1, depthwise), shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return y + x if self.shortcut else y


class CSPLayer(nn.Module):
    """conv3(cat(m(conv1(x)), conv2(x))): 1 x 1 units around `blocks`, which have c2 // 2 channels."""

    def __init__(self, c1: int, c2: int, make: Factory, blocks: Iterable[nn.Module]):
        super().__init__()
        hidden = c2 // 2
        self.conv1, self.conv2 = unit(c1, hidden, make()), unit(c1, hidden, make())
        self.conv3 = unit(2 * hidden, c2, make())
        self.m = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(concat([self.m(self.conv1(x)), self.conv2(x)]))


class SPP(nn.Module):
    """1 x 1 unit to c1 // 2 - it and its 5 x 5, 9 x 9, 13 x 13 max pools of stride 1 together - 1 x 1 unit to c2."""

    def __init__(self, c1: int, c2: int, make: Factory):
        super().__init__()
        self.conv1, self.conv2 = unit(c1, c1 // 2, make()), unit(c1 // 2 * 4, c2, make())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        # Pools in a row of 5 x 5 have the same outputs. Of equal spikes each pool gives the gradient to its first one.
        maps = [x, *(over_time(partial(F.max_pool2d, kernel_size=k, stride=1, padding=k // 2), x) for k in (5, 9, 13))]
        return self.conv2(concat(maps))


class Focus(nn.Module):
    """Stem: the four pixels of each 2 x 2 square become channels (upper left, lower left, upper right, lower right),
    then a 3 x 3 unit. Odd sizes are padded by zeros."""

    def __init__(self, c1: int, c2: int, neuron: nn.Module):
        super().__init__()
        self.conv = unit(4 * c1, c2, neuron, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(over_time(_squares, x))


def _squares(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, 4 C, ceil(H / 2), ceil(W / 2)]."""
    first, padded = x[..., ::2, ::2], F.pad(x, (0, 1, 0, 1))
    others = (crop_to(padded[..., row::2, column::2], first) for row, column in ((1, 0), (0, 1), (1, 1)))
    return torch.cat([first, *others], -3)


class Stem6x6(nn.Module):
    """Stem: a 6 x 6 convolution of stride 2, BatchNorm, neuron. Odd sizes are padded by zeros."""

    def __init__(self, c1: int, c2: int, neuron: nn.Module):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, 6, 2, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03)
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        # Two pixels on each side, and a third below and on the right, which only odd sizes reach.
        x = over_time(self.conv, over_time(lambda x: F.pad(x, (2, 3, 2, 3)), x))
        return self.neuron(over_time(self.bn, x))
