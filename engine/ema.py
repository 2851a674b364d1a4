"""Exponential moving average (EMA) of the weights, which is evaluated and deployed."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


class SharedWeights(nn.Module):
    """In the place of an `AveragedModel`, without an average: `module` is a copy of a model that shares its parameters
    and buffers, so that it takes neither time nor memory. Modes and options of evaluation are its own."""

    n_averaged: Tensor  # of the next update, as there

    def __init__(self, model: nn.Module):
        super().__init__()
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self.module = copy.deepcopy(model, shared)  # type: ignore[arg-type]
        self.register_buffer("n_averaged", torch.tensor(1))

    def update_parameters(self, model: nn.Module) -> None:
        self.n_averaged += 1


def build_ema(model: nn.Module, decay: float, ramp: float) -> AveragedModel | SharedWeights:
    """EMA of parameters and BatchNorm statistics, initialised from `model`; integer counters are copied.

    The decay at update n = 1, 2, ... is `decay * (1 - exp(-n / ramp))`, as in the published EMS-YOLO and SpikeYOLO
    trainers: small at first, so that the random initialisation loses its weight quickly. With a decay of 0 the average
    would be the weights, and `SharedWeights` are returned.
    """
    if decay == 0:
        return SharedWeights(model)

    @torch.no_grad()
    def average(averaged: Tensors, current: Tensors, _: Tensor | int) -> None:
        n = int(ema.n_averaged)  # on the CPU: the number that is given is a copy on the device, for which it would wait
        d = decay * (1 - math.exp(-n / ramp))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - d)
        else:
            torch._foreach_copy_(averaged, current)

    ema = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    ema.n_averaged.fill_(1)  # the number of the next update; at 0 AveragedModel would copy and lag one update behind
    ema.requires_grad_(False)
    return ema
