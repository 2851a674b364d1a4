"""Exponential moving average (EMA) of the weights, which is evaluated and deployed."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def build_ema(model: nn.Module, decay: float, ramp: float) -> AveragedModel:
    """EMA of parameters and BatchNorm statistics, initialised from `model`; integer counters are copied.

    The decay at update n = 1, 2, ... is `decay * (1 - exp(-n / ramp))`, as in the published EMS-YOLO and SpikeYOLO
    trainers: small at first, so that the random initialisation loses its weight quickly.
    """

    @torch.no_grad()
    def average(averaged: Tensors, current: Tensors, num_averaged: Tensor | int) -> None:
        d = decay * (1 - math.exp(-int(num_averaged) / ramp))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - d)
        else:
            torch._foreach_copy_(averaged, current)

    ema = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    ema.n_averaged.fill_(1)  # the number of the next update; at 0 AveragedModel would copy and lag one update behind
    ema.requires_grad_(False)
    return ema
