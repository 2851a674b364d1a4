"""Maps [T, B, C, H, W] made smaller or larger, all steps at once."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .time import over_time


def max_pool(x: Tensor, s: int) -> Tensor:
    """s x s max pooling of each step; odd sizes round up, as the strided convolutions beside it do."""
    return x if s == 1 else over_time(lambda x: F.max_pool2d(x, s, ceil_mode=True), x)


def upsample(x: Tensor) -> Tensor:
    """Each step twice as high and wide, by the nearest pixel."""
    return over_time(lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"), x)


def upsample_to(x: Tensor, like: Tensor) -> Tensor:
    """x twice as large, less the last row or column where `like` had an odd size."""
    return upsample(x)[..., : like.shape[-2], : like.shape[-1]]
