"""Normalisers of losses over all processes, so that their gradients add up to those of one process."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def over_processes(images: int, weights: Tensor) -> tuple[int | Tensor, Tensor]:
    """The number of images and sums of weights, all summed over all processes; unchanged in one process and without
    gradients. All processes must call this equally often, with as many weights."""
    if not (dist.is_available() and dist.is_initialized() and torch.is_grad_enabled()):
        return images, weights
    both = torch.cat([weights.flatten(), weights.new_full((1,), images)])
    dist.all_reduce(both)
    return both[-1], both[:-1].view_as(weights)
