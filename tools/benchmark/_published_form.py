"""EMS-YOLO's and SpikeYOLO's networks in the form of their published code, as rivals in time and memory.

Written from their definition. EMS-YOLO: convolutions step by step into one buffer, `BatchNorm3d` on [B, C, T, H, W]
between two transposed copies, both branches of a block with a neuron of their own, pooling after the concatenation.
SpikeYOLO: convolutions and BatchNorm over all steps at once, as ours. Both: neurons step by step with every membrane
kept for backward, logits of each step before their mean. Weights, losses and gradients are those of our networks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import Detector
from models.families.ems_yolo import AddBlock, ConcatBlock, ConvBN, EMSNetwork, GradedConv
from models.families.spikeyolo import SpikeYOLONetwork
from models.heads.anchor import AnchorHead
from models.heads.dfl import DFLHead
from models.layers.spike_conv import RateConv
from models.layers.time import over_time
from neurons import MultiStepNeuron
from neurons.graded_silu import GradedSiLU
from neurons.ilif import ILIF
from neurons.lif import LIF
from registry import UserError

LEAK, THRESHOLD, LEVELS = 0.25, 0.5, 4


def published_form(model: Detector) -> Detector:
    """A copy of a detector, with the same parameter names. UserError for another model, neuron or head."""
    heads = {EMSNetwork: AnchorHead, SpikeYOLONetwork: DFLHead}
    if not isinstance(model.head, heads.get(type(model.network), ())):  # type: ignore[call-overload]
        raise UserError("--rival published: written for the models of EMS-YOLO and SpikeYOLO with their own heads only")
    own = {LIF: LIF().dynamics, GradedSiLU: GradedSiLU().dynamics, ILIF: ILIF().dynamics}
    for neuron in (m for m in model.modules() if isinstance(m, MultiStepNeuron)):
        if getattr(neuron, "dynamics", None) != own.get(type(neuron)) or list(neuron.parameters()):
            raise UserError(f"--rival published: its neuron is lif or ilif with default arguments, not {neuron}")
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for kind, forward in FORWARDS.items():
            if isinstance(module, kind):
                module.forward = partial(forward, module)  # type: ignore[method-assign]
                break
        if isinstance(module, ConvBN):
            batch_norm = nn.BatchNorm3d(module.bn.num_features)
            batch_norm.load_state_dict(module.bn.state_dict())
            module.bn = batch_norm  # type: ignore[assignment]
    return model


class _Spike(torch.autograd.Function):
    """[H > 0.5], with the gradient 1 where |H - 0.5| < 0.5; keeps H."""

    @staticmethod
    def forward(ctx, h: Tensor) -> Tensor:
        ctx.save_for_backward(h)
        return (h > THRESHOLD).to(h.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (h,) = ctx.saved_tensors
        return grad * ((h - THRESHOLD).abs() < 0.5).to(grad.dtype)


def _lif(neuron: nn.Module, x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    h, spike = x[0], x.new_zeros(())
    for t in range(len(x)):
        if t:
            h = h * LEAK * (1 - spike.detach()) + x[t]
        spike = _Spike.apply(h)
        y[t] = spike
    return y


class _Level(torch.autograd.Function):
    """round(clip(H, 0, 4)), with the gradient 1 where 0 <= H <= 4; keeps H."""

    @staticmethod
    def forward(ctx, h: Tensor) -> Tensor:
        ctx.save_for_backward(h)
        return h.clamp(0, LEVELS).round()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (h,) = ctx.saved_tensors
        return grad * ((h >= 0) & (h <= LEVELS)).to(grad.dtype)


def _ilif(neuron: nn.Module, x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    h, level = x[0], x.new_zeros(())
    for t in range(len(x)):
        if t:
            h = (h - level.detach()) * LEAK + x[t]
        level = _Level.apply(h)
        y[t] = level
    return y


def _graded(neuron: nn.Module, x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    h = F.silu(x[0])
    for t in range(len(x)):
        if t:
            h = F.silu(h * LEAK * (1 - h.detach()) + x[t])
        y[t] = h
    return y


def _conv(conv: nn.Conv2d, x: Tensor) -> Tensor:
    k, s, p = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    height, width = ((n + 2 * p - k) // s + 1 for n in x.shape[-2:])  # type: ignore[operator]
    y = torch.zeros(*x.shape[:2], conv.out_channels, height, width, device=x.device)
    for t in range(len(x)):
        y[t] = conv(x[t])
    return y


def _conv_bn(block: ConvBN, x: Tensor) -> Tensor:
    x = _conv(block.conv, x).permute(1, 2, 0, 3, 4).contiguous()
    return block.bn(x).permute(2, 0, 1, 3, 4).contiguous()


def _graded_conv(block: Any, x: Tensor) -> Tensor:
    return block.neuron(_conv_bn(block, x))


def _pool(x: Tensor, s: int) -> Tensor:
    return F.max_pool3d(x, (1, s, s), (1, s, s), ceil_mode=True)


def _add_block(block: AddBlock, x: Tensor) -> Tensor:
    if not block.projects:
        return block.residual(x) + x
    return block.residual(x) + block.shortcut(block.shortcut_neuron(_pool(x, block.stride)))


def _concat_block(block: ConcatBlock, x: Tensor) -> Tensor:
    shortcut = block.shortcut(block.residual.neuron1(x))
    return block.residual(x) + _pool(torch.cat([shortcut, x], 2), block.stride)


def _upsample(x: Tensor) -> Tensor:
    y = torch.zeros(*x.shape[:3], 2 * x.shape[3], 2 * x.shape[4], device=x.device)
    for t in range(len(x)):
        y[t] = F.interpolate(x[t], scale_factor=2.0, mode="nearest")
    return y


def _network(network: Any, x: Tensor) -> list[Tensor]:
    x = network.stem(x.contiguous())  # the image, copied T times
    for i, stage in enumerate(network.stages):
        x = stage(x)
        if i == network.c4:
            c4 = x
    x = network.bridge(x)
    up = _upsample(network.lateral(x))[..., : c4.shape[-2], : c4.shape[-1]]
    return [network.p4(torch.cat([up, c4], 2)), network.p5(x)]


def _head(head: AnchorHead, features: list[Tensor]) -> list[Tensor]:
    anchors = head.anchors.shape[1]
    logits = [_conv(conv, x).mean(0) for conv, x in zip(head.predict, features, strict=True)]  # type: ignore[arg-type]
    return [level.unflatten(1, (anchors, -1)).permute(0, 1, 3, 4, 2).contiguous() for level in logits]


def _rate_conv(block: RateConv, x: Tensor) -> Tensor:
    return over_time(block.conv, block.neuron(x)).mean(0)


FORWARDS: dict[type, Callable[..., Any]] = {
    GradedConv: _graded_conv,
    ConvBN: _conv_bn,
    AddBlock: _add_block,
    ConcatBlock: _concat_block,
    EMSNetwork: _network,
    AnchorHead: _head,
    GradedSiLU: _graded,
    LIF: _lif,
    ILIF: _ilif,
    RateConv: _rate_conv,
}
