"""Functions over the time axis: repeat images, apply stateless layers to T and B at once, average logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn


def repeat_over_time(x_BCHW: Tensor, num_steps: int) -> Tensor:
    """An image shown T times, [B, C, H, W] -> [T, B, C, H, W], as a view."""
    return x_BCHW.unsqueeze(0).expand(num_steps, *x_BCHW.shape)


def is_repeated(x_TBCHW: Tensor) -> bool:
    """Whether all of several steps are one image, as `repeat_over_time` shows it."""
    return x_TBCHW.shape[0] > 1 and x_TBCHW.stride(0) == 0


def over_time(layer: Callable[[Tensor], Tensor], x_TBCHW: Tensor) -> Tensor:
    """Apply a stateless layer [N, C, H, W] -> [N, C', H', W'], a module or a function, to all T * B images in one call.

    If all steps are one image (`repeat_over_time`), the layer is applied once and its output repeated: the same output
    for less work. Not while gradients are recorded, since the sum over T of weight gradients would be rounded
    differently; and not for modules in training mode, since BatchNorm corrects its running variance by n / (n - 1),
    with n over all T * B images.

    A `torch.fx` trace sees the layer alone: its graph has no time axis (`models.deploy.graph`).
    """
    if isinstance(x_TBCHW, fx.Proxy):
        return layer(x_TBCHW)
    if is_repeated(x_TBCHW) and not torch.is_grad_enabled() and not getattr(layer, "training", False):
        return repeat_over_time(layer(x_TBCHW[0]), x_TBCHW.shape[0])
    return layer(x_TBCHW.flatten(0, 1)).unflatten(0, x_TBCHW.shape[:2])


def mean_over_time(x_TBCHW: Tensor) -> Tensor:
    """Mean over the steps, [T, B, ...] -> [B, ...]."""
    return x_TBCHW.mean(0)


def readout(last: nn.Conv2d, x_TBCHW: Tensor) -> Tensor:
    """Mean over T of the logits `last(x)` of each step, [T, B, C, H, W] -> [B, C', H, W]; of steps weighted by its
    `step_weights`, where it has them (`models.options.readout`).

    A convolution is linear, so it is applied to the mean of x: equal but for rounding, and T times less work. Under
    autocast it keeps the precision of its weights, since boxes are decoded from these logits.
    """
    if isinstance(x_TBCHW, fx.Proxy):
        return last(mean_over_time(x_TBCHW))
    if (step_weights := getattr(last, "step_weights", None)) is not None:
        x_TBCHW = step_weights(x_TBCHW)
    with torch.autocast(x_TBCHW.device.type, enabled=False):
        return last(mean_over_time(x_TBCHW.to(last.weight.dtype)))
