"""Single layers as nodes of NIR: convolutions, neurons, pools, padding and cropping, choices of channels."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
from torch import nn

from neurons.base import DynamicNeuron

from .nir_support import Unsupported

Shape = tuple[int, ...]  # (C, H, W) of one step

# What a neuron emits that NIR's cannot, whose spikes are 0 and 1.
OTHER_SPIKES = {
    "integer": "integer spikes 0..D (NIR's are 0 and 1)",
    "ternary": "ternary spikes -1, 0 and 1 (NIR's are 0 and 1)",
}


def convolution(layer: Any, shape: Shape, dtype: Any) -> nir.Conv2d:
    """A Conv2d; one of groups as the dense one that it equals, since NIR 1.0.8 miscounts the channels of groups.

    Not a transposed one, nor one whose kernel is not square: NIR 1.0.8 computes a wrong size of its output.
    """
    if not isinstance(layer, nn.Conv2d):
        raise Unsupported("transposed convolutions")
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise Unsupported(f"padding {layer.padding} of the mode {layer.padding_mode!r}")
    if layer.kernel_size[0] != layer.kernel_size[1]:
        raise Unsupported(f"the kernel {layer.kernel_size}, which is not square")
    own = layer.weight.detach().cpu().numpy().astype(dtype)
    weight = np.zeros((layer.out_channels, layer.in_channels, *layer.kernel_size), dtype)
    for group, rows in enumerate(np.split(np.arange(layer.out_channels), layer.groups)):
        columns = slice(group * own.shape[1], (group + 1) * own.shape[1])
        weight[rows, columns] = own[rows]
    bias = np.zeros(len(weight), dtype) if layer.bias is None else layer.bias.detach().cpu().numpy().astype(dtype)
    return _conv2d(shape, weight, bias, layer.stride, layer.padding, layer.dilation)


def neuron(layer: Any, shape: Shape, dt: float, dtype: Any) -> nir.LIF | nir.IF:
    """LIF or IF whose Euler step of `dt` seconds is a step of `layer` (`neurons.multistep.dynamics`):

        tau dv/dt = v_leak - v + r I    tau = dt tau_steps,  r = tau_steps, or 1 of a damped input,  v_leak = v_reset
        dv/dt = r I                     r = 1 / dt

    The LIF of EMS-YOLO, tau_steps = 4/3, gets tau = 4/3 dt and r = 4/3. NIR fires where v > threshold. Of a neuron that
    also fires at the threshold the next smaller float32 is written, so that both agree for all float32 v.
    """
    if not isinstance(layer, DynamicNeuron):
        raise Unsupported(f"{type(layer).__name__}, which is no LIF or IF neuron")
    dynamics = layer.dynamics
    if dynamics.emit != "binary":
        real = f"the real output of {type(layer).__name__} (NIR's neurons emit 0 and 1)"
        raise Unsupported(OTHER_SPIKES.get(dynamics.emit, real))
    if dynamics.v_reset is None:
        raise Unsupported("the soft reset (NIR's neurons are set to v_reset: train with v_reset: 0.0 in model.neuron)")
    if dynamics.v_init:
        raise Unsupported(f"a potential of {dynamics.v_init:g} before the first step (NIR's is 0)")
    learned, decay = layer.learned_threshold(), layer.decay()
    threshold = dynamics.v_threshold if learned is None else float(learned)
    tau = dynamics.tau if decay is None else 1 / float(decay)
    if dynamics.inclusive:
        threshold = float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))

    def full(value: float) -> np.ndarray:
        return np.full(shape, value, dtype)

    if not np.isfinite(tau):
        return nir.IF(full(1 / dt), full(threshold), full(dynamics.v_reset))
    r = 1.0 if dynamics.decay_input else tau
    reset = full(dynamics.v_reset)
    return nir.LIF(full(tau * dt), full(r), v_leak=reset, v_threshold=full(threshold), v_reset=reset)


def average_pool(layer: nn.AvgPool2d, shape: Shape, after: Shape) -> nir.AvgPool2d:
    kernel, stride, padding = _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding)
    if layer.divisor_override or (any(padding) and not layer.count_include_pad):
        raise Unsupported("average pools that do not divide by the size of the window")
    _check_windows(kernel, stride, padding, (1, 1), shape, after)
    return nir.AvgPool2d(np.array(kernel), np.array(stride), np.array(padding))


def max_pool(layer: Any, shape: Shape, after: Shape, dtype: Any) -> tuple[nir.SumPool2d, nir.Threshold]:
    """Of spikes: whether any of the window fires."""
    window = layer.keywords
    kernel, padding, dilation = (_pair(window[key]) for key in ("kernel_size", "padding", "dilation"))
    stride = _pair(window["stride"]) if window["stride"] else kernel
    _check_windows(kernel, stride, padding, dilation, shape, after)
    pool = nir.SumPool2d(np.array(kernel), np.array(stride), np.array(padding))
    return pool, nir.Threshold(np.full(after, 0.5, dtype))


def pad(shape: Shape, border: tuple[int, ...], dtype: Any) -> nir.Conv2d:
    """Zeros at (left, right, top, bottom), of negative numbers cropping: a convolution whose kernel is a single 1.

    Padded by p on all sides, x lies at p in both axes; a kernel of k = 2 p + 1 - left - right with its 1 at p - left
    gives left zeros before x, and right behind it.
    """
    left, right, top, bottom = border
    if left + right != top + bottom:
        raise Unsupported("padding or cropping of other numbers of rows than of columns")
    p = max(0, *border)
    k = 2 * p + 1 - left - right
    weight = np.zeros((shape[0], shape[0], k, k), dtype)
    weight[range(shape[0]), range(shape[0]), p - top, p - left] = 1
    return _conv2d(shape, weight, np.zeros(shape[0], dtype), (1, 1), (p, p), (1, 1))


def selection(shape: Shape, channels: range, to: range, total: int, dtype: Any) -> nir.Conv2d:
    """`channels` of x as the channels `to` of `total`, the others 0: a 1 x 1 convolution of ones and zeros."""
    weight = np.zeros((total, shape[0], 1, 1), dtype)
    weight[to, channels] = 1
    return _conv2d(shape, weight, np.zeros(total, dtype), (1, 1), (0, 0), (1, 1))


def _conv2d(shape: Shape, weight: np.ndarray, bias: np.ndarray, stride: Any, padding: Any, dilation: Any) -> nir.Conv2d:
    size = tuple(int(n) for n in shape[1:])
    return nir.Conv2d(size, weight, tuple(stride), tuple(padding), tuple(dilation), 1, bias)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _check_windows(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int],
    shape: Shape, after: Shape,
) -> None:  # fmt: skip
    """Windows that the border cuts, or with gaps, are none of NIR's."""
    if dilation != (1, 1):
        raise Unsupported("pools with a dilation")
    whole = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(shape[1:], padding, kernel, stride, strict=True)]
    if whole != list(after[1:]):
        raise Unsupported(f"pooling windows cut by the border, of a map of {shape[1]} x {shape[2]}: give other sizes")
