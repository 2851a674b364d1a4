"""The time axis, in one place: lift images to T steps, run stateless layers over T and B at once, read time out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def repeat_over_time(x_BCHW: Tensor, num_steps: int) -> Tensor:
    """An image shown T times, [B, C, H, W] -> [T, B, C, H, W], as a view."""
    return x_BCHW.unsqueeze(0).expand(num_steps, *x_BCHW.shape)


def over_time(layer: Callable[[Tensor], Tensor], x_TBCHW: Tensor) -> Tensor:
    """Apply a stateless layer [N, C, H, W] -> [N, C', H', W'] to all T * B pictures in one call."""
    return layer(x_TBCHW.flatten(0, 1)).unflatten(0, x_TBCHW.shape[:2])


def mean_over_time(x_TBCHW: Tensor) -> Tensor:
    """Rate readout, [T, B, ...] -> [B, ...]."""
    return x_TBCHW.mean(0)
