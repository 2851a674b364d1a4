"""Averaged weights: what is evaluated and deployed."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def build_ema(model: nn.Module, decay: float, ramp: float) -> AveragedModel:
    """Exponential average of parameters and BatchNorm statistics; counters are copied.

    The decay after n updates is `decay * (1 - exp(-n / ramp))`, so that the average soon forgets the random start.
    """

    @torch.no_grad()
    def average(averaged: Tensors, current: Tensors, num_averaged: Tensor | int) -> None:
        d = decay * (1 - math.exp(-int(num_averaged) / ramp))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - d)
        else:
            torch._foreach_copy_(averaged, current)

    ema = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    ema.requires_grad_(False)
    return ema
