"""Normalisers of losses over all processes, so that their gradients add up to those of one process."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def over_processes(images: int, weights: Tensor) -> tuple[int | Tensor, Tensor]:
    """The number of images and a sum of weights, both summed over all processes; unchanged in one process and without
    gradients. All processes must call this equally often."""
    if not (dist.is_available() and dist.is_initialized() and torch.is_grad_enabled()):
        return images, weights
    both = torch.stack([weights, weights.new_full((), images)])
    dist.all_reduce(both)
    return both[1], both[0]
