"""SpikeConv: neuron - convolution - BatchNorm, the layer of spike-driven networks, and its fusion for inference."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from .time import mean_over_time, over_time, readout


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm with the constants of SpikeYOLO."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)


class Reparameterised(Protocol):
    """Several convolutions without a nonlinearity between them; in evaluation they equal one, or a shorter sequence."""

    def dense(self) -> nn.Conv2d: ...

    def separable(self) -> nn.Sequential: ...


class SpikeConv(nn.Module):
    """x [T, B, c1, H, W] -> [T, B, c2, H', W']: a neuron, a convolution of its spikes, BatchNorm over T, B, H, W.

    Args:
        neuron: None to convolve the input itself.
        conv: `nn.Conv2d`, or `Reparameterised` convolutions.
        bn: None for a layer without BatchNorm.
    """

    published = {"conv": "conv", "bn": "bn"}

    def __init__(self, neuron: nn.Module | None, conv: nn.Module, bn: nn.BatchNorm2d | None):
        super().__init__()
        self.neuron, self.conv = neuron or nn.Identity(), conv
        self.bn: nn.Module = bn or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return over_time(self.bn, over_time(self.conv, self.neuron(x)))


class RateConv(SpikeConv):
    """x [T, B, c1, H, W] -> logits [B, c2, H, W]: a neuron, and a 1 x 1 convolution of its mean over T (`readout`)."""

    def __init__(self, c1: int, c2: int, neuron: nn.Module):
        super().__init__(neuron, nn.Conv2d(c1, c2, 1), None)

    def forward(self, x: Tensor) -> Tensor:
        logits = readout(self.conv, self.neuron(x))  # type: ignore[arg-type]
        return mean_over_time(logits.unsqueeze(0))  # a mean over one step: makes the gradient of `logits` contiguous


def standard(c1: int, c2: int, neuron: nn.Module | None, k: int = 1, s: int = 1, bn: bool = True) -> SpikeConv:
    """A SpikeConv with one k x k convolution, which has a bias where it has no BatchNorm."""
    conv = nn.Conv2d(c1, c2, k, s, k // 2, bias=not bn)
    return SpikeConv(neuron, conv, batch_norm(c2) if bn else None)


def scale_and_shift(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm in evaluation: scale * x + shift, each [C]."""
    mean, var = cast(Tensor, bn.running_mean), cast(Tensor, bn.running_var)
    scale = torch.rsqrt(var + bn.eps) if bn.weight is None else bn.weight / torch.sqrt(var + bn.eps)
    return scale, (0 if bn.bias is None else bn.bias) - mean * scale


def conv2d(weight: Tensor, bias: Tensor, like: nn.Conv2d) -> nn.Conv2d:
    """A convolution with these weights, and the stride, padding and groups of `like`."""
    out, per_group = weight.shape[:2]
    conv = nn.Conv2d(
        per_group * like.groups, out, tuple(weight.shape[2:]), like.stride, like.padding, groups=like.groups,  # type: ignore[arg-type]
        device=weight.device, dtype=weight.dtype,
    )  # fmt: skip
    conv.weight.data.copy_(weight)
    assert conv.bias is not None
    conv.bias.data.copy_(bias)
    return conv.requires_grad_(False).eval()


def fuse_conv_bn(conv: nn.Conv2d, bn: nn.Module) -> nn.Conv2d:
    """bn(conv(x)) as one convolution."""
    bias = conv.bias if conv.bias is not None else conv.weight.new_zeros(conv.out_channels)
    if not isinstance(bn, nn.BatchNorm2d):
        return conv2d(conv.weight, bias, conv)
    scale, shift = scale_and_shift(bn)
    return conv2d(conv.weight * scale.view(-1, 1, 1, 1), bias * scale + shift, conv)
