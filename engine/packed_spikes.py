"""Keep the spikes that a convolution reads as bits between forward and backward."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.layers.layout import memory_format
from neurons import MultiStepNeuron
from neurons.packing import bits_for, pack, unpack

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


class Emitted(NamedTuple):
    """The values that are in a storage: integers from `low` on, which fit into `bits`, as of `version`."""

    low: int
    bits: int
    version: int


def pack_spikes(model: nn.Module) -> None:
    """Change `model` in place: a convolution whose input is the output of a neuron, or a view of it, keeps it in 1, 2,
    4 or 8 bits per value for backward instead of 16 or 32, and unpacks it there. Losses and gradients are the same.

    For neurons that emit integers of a known range (`MultiStepNeuron.emits`). Nothing is looked up in the values, so
    that a GPU is not waited for.
    """
    for module in model.modules():
        if isinstance(module, MultiStepNeuron) and module.emits is not None:
            module.register_forward_hook(_mark)
        elif type(module) in CONVOLUTIONS and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module.forward = PackedConvolution(module)


def _mark(neuron: nn.Module, _: Any, y: Tensor) -> None:
    """Note in the memory of y, which views share, what is in it. It is forgotten with the memory."""
    assert isinstance(neuron, MultiStepNeuron) and neuron.emits is not None
    bits = bits_for(*neuron.emits)  # they may change during training
    if y.requires_grad and bits is not None:
        y.untyped_storage().emitted = Emitted(neuron.emits[0], bits, y._version)  # type: ignore[attr-defined]


class PackedConvolution:
    """The `forward` of a convolution of spikes."""

    def __init__(self, conv: Any):  # Conv2d or ConvTranspose2d
        self.conv = conv

    def __call__(self, x: Tensor) -> Tensor:
        conv = self.conv
        emitted = getattr(x.untyped_storage(), "emitted", None)
        known = (
            emitted is not None and emitted.version == x._version and x.is_contiguous(memory_format=memory_format(x))
        )
        if not known or not torch.is_grad_enabled() or not conv.weight.requires_grad:
            return type(conv).forward(conv, x)
        weight, bias, device = conv.weight, conv.bias, x.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        transposed = conv.transposed, conv.output_padding
        geometry = (conv.stride, conv.padding, conv.dilation, *transposed, conv.groups)
        return _Convolution.apply(x, weight, bias, geometry, emitted)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple, emitted: Emitted) -> Tensor:
        ctx.geometry, ctx.emitted, ctx.bias_sizes = geometry, emitted, None if bias is None else [len(bias)]
        ctx.shape, ctx.strides, ctx.dtype = x.shape, x.stride(), x.dtype
        ctx.save_for_backward(pack(x.as_strided((x.numel(),), (1,)), emitted.low, emitted.bits), weight)
        with torch.autocast(x.device.type, enabled=False):
            return torch.convolution(x, weight, bias, *geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        packed, weight = ctx.saved_tensors
        flat = unpack(packed, ctx.shape.numel(), ctx.emitted.low, ctx.emitted.bits, ctx.dtype)
        x = flat.as_strided(ctx.shape, ctx.strides)
        found = torch.ops.aten.convolution_backward(
            grad, x, weight, ctx.bias_sizes, *ctx.geometry, list(ctx.needs_input_grad[:3])
        )
        return (*found, None, None)
