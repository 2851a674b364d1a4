"""Learned thresholds: positive whatever the optimizer does, one of the layer or one per channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

FLOOR = 1e-3


def positive(parameter: Tensor) -> Tensor:
    """max(parameter, FLOOR), with the gradient of `parameter`, but 0 where descent would lower it below the floor.

    So a parameter that has fallen below returns as soon as the loss asks for it: the lower bound of Ballé et al., ICLR
    2018, whose gradient is passed on where it leads towards the bound.
    """
    return _Positive.apply(parameter)


class _Positive(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(parameter: Tensor) -> Tensor:  # type: ignore[override]
        return parameter.clamp(min=FLOOR)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (parameter,) = ctx.saved_tensors
        return grad * ((parameter >= FLOOR) | (grad < 0))


def fill(parameter: nn.Parameter, shape: tuple[int, ...], value: float) -> None:
    """Give a parameter that was made without a shape this shape and value; one that has a shape keeps what it has."""
    if isinstance(parameter, UninitializedParameter):
        with torch.inference_mode(False), torch.no_grad():
            parameter.materialize(shape)
            parameter.fill_(value)
