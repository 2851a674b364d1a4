"""Max pooling and upsampling of maps [T, B, C, H, W], all steps at once."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .time import over_time


def max_pool(x: Tensor, s: int) -> Tensor:
    """s x s max pooling of each step; odd sizes round up, as in strided convolutions."""
    return x if s == 1 else over_time(lambda x: F.max_pool2d(x, s, ceil_mode=True), x)


def upsample(x: Tensor) -> Tensor:
    """Each step twice as high and wide, by the nearest pixel."""
    return over_time(lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"), x)


def upsample_to(x: Tensor, like: Tensor) -> Tensor:
    """x upsampled by 2 and cropped to the size of `like`, for odd sizes."""
    return crop_to(upsample(x), like)


def crop_to(x: Tensor, like: Tensor) -> Tensor:
    """The upper left part of x, as high and wide as `like`."""
    return x[..., : like.shape[-2], : like.shape[-1]]
