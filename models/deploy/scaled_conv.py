"""A convolution between channels of other scales: for folding BatchNorm and for data-based normalisation."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def scaled_conv(
    conv: nn.Module, before: Tensor | None = None, after: Tensor | None = None, shift: Tensor | None = None
) -> nn.Module:
    """A copy of `conv` that gives after * conv(before * x) + shift: before [C_in], after and shift [C_out].

    conv: Conv2d or ConvTranspose2d, of any number of groups.
    """
    own: Any = copy.deepcopy(conv)
    groups = own.groups
    transposed = isinstance(own, nn.ConvTranspose2d)
    # [groups, out, in, k, k] of a convolution, [groups, in, out, k, k] of a transposed one
    weight = own.weight.unflatten(0, (groups, -1))
    if before is not None:
        grouped = before.to(weight).view(groups, -1, 1, 1, 1)
        weight = weight * (grouped if transposed else grouped.transpose(1, 2))
    bias = own.bias if own.bias is not None else weight.new_zeros(own.out_channels)
    if after is not None:
        grouped = after.to(weight).view(groups, -1, 1, 1, 1)
        weight, bias = weight * (grouped.transpose(1, 2) if transposed else grouped), bias * after.to(bias)
    if shift is not None:
        bias = bias + shift.to(bias)
    own.weight = nn.Parameter(weight.flatten(0, 1), requires_grad=False)
    own.bias = nn.Parameter(bias, requires_grad=False)
    return own
