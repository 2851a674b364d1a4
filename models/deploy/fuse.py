"""Fuse networks for inference: BatchNorm and re-parameterised convolutions of a SpikeConv into one convolution."""

from __future__ import annotations

import copy
import time
from functools import partial

import torch
from torch import Tensor, nn

from registry import UserError

from ..detector import Detector
from ..layers.spike_conv import RateConv, SpikeConv, fuse_conv_bn
from ..layers.watch import watch

FORMS = ("dense", "separable", "fastest")


def fuse(model: Detector, form: str = "dense", example: Tensor | None = None, repeats: int = 5) -> Detector:
    """A copy of `model` for evaluation, with BatchNorm and re-parameterised convolutions fused.

    Args:
        form: `dense`: one convolution per SpikeConv, as spike-driven hardware runs it, and `binary` needs it;
            `separable`: RepConv and SepRepConv keep their cheap factors; `fastest`: for each layer the
            faster of both on this machine, on the inputs that it gets for `example`.
        example: input of the model, for `fastest`.
        repeats: timings per layer, for `fastest`.
    """
    if form not in FORMS:
        raise UserError(f"unknown form {form!r}. Known: {list(FORMS)}")
    if (form == "fastest") != (example is not None):
        raise UserError("form='fastest' needs an example input, and no other form does")
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    inputs = _inputs(fused, example) if example is not None else {}
    for layer in fused.modules():
        if not isinstance(layer, SpikeConv) or isinstance(layer, RateConv):  # which has no BatchNorm
            continue
        forms = [form] if form != "fastest" else ["dense", "separable"]
        found = [_fused(layer, f) for f in forms]
        x = inputs.get(layer.conv)
        layer.conv = found[0] if x is None else min(found, key=partial(_seconds, x=x, repeats=repeats))
        layer.bn = nn.Identity()
    return fused


def _fused(layer: SpikeConv, form: str) -> nn.Module:
    if isinstance(layer.conv, nn.Conv2d):
        return fuse_conv_bn(layer.conv, layer.bn)
    if form == "dense":
        return fuse_conv_bn(layer.conv.dense(), layer.bn)  # type: ignore[operator]
    *convs, last = layer.conv.separable()  # type: ignore[operator]
    return nn.Sequential(*convs, fuse_conv_bn(last, layer.bn))


def _inputs(model: Detector, example: Tensor) -> dict[nn.Module, Tensor]:
    """Input of the convolution of each SpikeConv when the model runs on `example`."""
    found: dict[nn.Module, Tensor] = {}
    convs = [layer.conv for layer in model.modules() if isinstance(layer, SpikeConv)]
    with torch.no_grad(), watch(convs, lambda conv, x, y: found.update({conv: x})):
        model.raw(example)
    return found


def _seconds(conv: nn.Module, x: Tensor, repeats: int) -> float:
    """The least time of one call."""
    taken = []
    with torch.no_grad():
        for _ in range(repeats):
            if x.is_cuda:
                torch.cuda.synchronize()
            start = time.perf_counter()
            conv(x)
            if x.is_cuda:
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
    return min(taken)
