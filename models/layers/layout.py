"""Memory layout of maps: what keeps channels_last where torch alone would lose it."""

from __future__ import annotations

import torch
from torch import Tensor, fx


def memory_format(x: Tensor) -> torch.memory_format:
    """channels_last for a map [N, C, H, W] in that format, else the contiguous one."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def concat(maps: list[Tensor]) -> Tensor:
    """The channels of maps [T, B, C_i, H, W] one after the other.

    T and B are folded for it: torch.cat knows channels_last of four axes only, and gives a contiguous result of five.
    """
    first = maps[0]
    if isinstance(first, fx.Proxy) or first.dim() != 5:
        return torch.cat(maps, -3)
    return torch.cat([x.flatten(0, 1) for x in maps], 1).unflatten(0, first.shape[:2])
