"""The dynamics on [T, M] tensors: one pass over time forward, one backward, with the gradient written out.

These functions are the `torch` backend as they are and the `compile` backend after torch.compile; the CUDA kernel has
the same formulas in the same order. M runs over the elements of one step in their order in memory. Everything is
computed in float32 (float64 for float64 input). `reference.py` holds the same dynamics as plain autograd.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..surrogate import Number, Slopes, derivative, number, raised
from .dynamics import Dynamics


class Constants(NamedTuple):
    keep: Number
    gain: Number
    rest: Number
    threshold: Number
    slopes: Slopes


class Partials(NamedTuple):
    """Derivatives of one step."""

    s_h: Tensor  # dS/dH
    v_h: Tensor | None  # dV/dH; None: identically 1
    s_th: Tensor | None = None  # dS/dth with H fixed; None: not needed
    v_th: Tensor | None = None  # dV/dth with H fixed; None: identically 0


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def constants(d: Dynamics, decay: Tensor | None, threshold: Tensor | None, slopes: Slopes | None = None) -> Constants:
    """The numbers of the dynamics, replaced by learned ones and by `slopes`, where they are given."""
    th = d.v_threshold if threshold is None else threshold
    n = slopes or d.slopes
    if decay is None:
        return Constants(d.keep, d.gain, d.rest, th, n)
    return Constants(1 - decay, decay if d.decay_input else 1.0, decay * d.v_reset if d.v_reset else 0.0, th, n)


def charge(c: Constants, v: Tensor | None, x: Tensor) -> Tensor:
    h = x if isinstance(c.gain, float) and c.gain == 1 else x * c.gain
    if v is not None:
        h = (v if isinstance(c.keep, float) and c.keep == 1 else v * c.keep) + h
    return h if isinstance(c.rest, float) and c.rest == 0 else h + c.rest


def divided(h: Tensor, th: Number) -> Tensor:
    return h if isinstance(th, float) and th == 1 else h / th


def fires(d: Dynamics, h: Tensor, th: Number) -> Tensor:
    return number(torch.ge if d.inclusive else torch.gt, h, th)


def fires_negative(d: Dynamics, h: Tensor, th: Number) -> Tensor:
    return number(torch.ge, -h, d.negative * th)


def hard_reset(d: Dynamics, h: Tensor, fired: Tensor) -> Tensor:
    """(1 - fired) h + fired v_reset; an infinite H turns into NaN, as in the published code and in SpikingJelly."""
    v = h * (1 - fired)
    return v + fired * d.v_reset if d.v_reset else v


def within_window(c: Constants, u: Tensor) -> Tensor:
    """[-margin <= u <= levels + margin]"""
    return number(torch.eq, u.clamp(c.slopes.bottom, c.slopes.top), u)  # type: ignore[arg-type]


def quantised(d: Dynamics, c: Constants, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """QCFS: y, and as 0 and 1 whether X lies within the levels, and above them."""
    u = x * (d.levels / c.threshold) + 0.5
    above = number(torch.ge, u, d.levels)
    return u.clamp(0, d.levels).floor() * (c.threshold / d.levels), number(torch.ge, u, 0) - above, above


def step(d: Dynamics, c: Constants, h: Tensor) -> tuple[Tensor, Tensor | None]:
    """S and V of one step from its H (from its X where there is no membrane)."""
    th = c.threshold
    if d.emit == "binary":
        s = fires(d, h, th)
        return s, h - s * th if d.v_reset is None else hard_reset(d, h, s)
    if d.emit == "ternary":
        p, n = fires(d, h, th), fires_negative(d, h, th)
        if d.v_reset is None:
            return p - n, h - (p - n * d.negative) * th
        return p - n, hard_reset(d, h, p + n)
    if d.emit == "integer":
        s = divided(h, th).clamp(0, d.levels).round()
        return s, h - s * th
    if d.emit == "silu":
        s = F.silu(h)
        return s, (s if d.carries_output else h) * (1 - s)
    if d.emit == "qcfs":
        return quantised(d, c, h)[0], None
    positive = torch.where(h > th, th, h)
    negative = torch.where(h * d.slope < -th, -th, h * d.slope)
    return torch.where(h >= 0, positive, negative), None


def masks(d: Dynamics, c: Constants, h: Tensor, bits: int) -> list[Tensor]:
    """What backward needs of this step: `Dynamics.bits` tensors of 0 and 1."""
    th = c.threshold
    if d.emit == "sth":
        beyond = number(torch.gt, h, th) + number(torch.lt, h * d.slope, -th)
        return [1 - beyond, number(torch.ge, h, 0)]
    if d.emit == "integer":
        return [within_window(c, divided(h, th))]
    if d.emit == "qcfs":
        return [quantised(d, c, h)[1]]
    found = [number(torch.lt, (h - th).abs(), c.slopes.window)]
    if d.emit == "ternary":
        found.append(number(torch.lt, (-h - d.negative * th).abs(), c.slopes.window))
    if bits > len(found):
        found.append(fires(d, h, th))
    if bits > len(found):
        found.append(fires_negative(d, h, th))
    return found


def partials_from_masks(d: Dynamics, c: Constants, found: list[Tensor], learned: bool) -> Partials:
    """Partials of a step from its `masks`; with those for the threshold if it is `learned`."""
    if d.emit == "sth":
        on_slope, positive = found
        sign = 2 * positive - 1
        return Partials(on_slope * (positive + (1 - positive) * d.slope), None, (1 - on_slope) * sign)
    if d.emit == "qcfs":
        return Partials(found[0], None)
    if d.emit == "integer":
        window = raised(found[0], c.slopes.floor)
        return Partials(divided(window, c.threshold), None if d.detach_reset else 1 - window)
    thresholds = 2 if d.emit == "ternary" else 1
    slopes: list[Tensor | None] = [raised(f * c.slopes.alpha, c.slopes.floor) for f in found[:thresholds]]
    fired: list[Tensor | None] = [*found[thresholds:], None, None]
    p, n = [*slopes, None][:2]
    assert p is not None
    return spike_partials(d, c, None, p, n, fired[0], fired[1], learned)


def spike_partials(
    d: Dynamics, c: Constants, h: Tensor | None, p: Tensor, n: Tensor | None, positive: Tensor | None,
    negative: Tensor | None, learned: bool,
) -> Partials:  # fmt: skip
    """Binary and ternary, from the surrogate p, n and the spikes `positive`, `negative` (1 or 0) at the thresholds.

    n and `negative` are None for binary; h and the spikes are None where the form does not need them.
    """
    th, r = c.threshold, d.negative
    s_h = p if n is None else p + n
    s_th = None if not learned else -p if n is None else r * n - p
    if d.v_reset is None:
        v_h = None if d.detach_reset else 1 - (p if n is None else p + r * n) * th
        if not learned:
            return Partials(s_h, v_h)
        assert positive is not None
        v_th = -(positive if negative is None else positive - r * negative)
        if not d.detach_reset:
            v_th = v_th + (p if n is None else p - r * r * n) * th
        return Partials(s_h, v_h, s_th, v_th)
    assert positive is not None
    v_h = 1 - (positive if negative is None else positive + negative)
    if d.detach_reset:
        return Partials(s_h, v_h, s_th)
    assert h is not None
    v_h = v_h + (d.v_reset - h) * (p if n is None else p - n)
    return Partials(s_h, v_h, s_th, (h - d.v_reset) * (p if n is None else p + r * n) if learned else None)


def partials(d: Dynamics, c: Constants, h: Tensor, learned: bool) -> Partials:
    """Partials of a step from its H."""
    th, r = c.threshold, d.negative
    if d.emit == "silu":
        sigma = torch.sigmoid(h)
        s = h * sigma
        s_h = sigma * (1 + h * (1 - sigma))
        return Partials(s_h, (1 - s) * s_h if d.carries_output else 1 - s)
    if d.emit == "qcfs":
        y, inside, above = quantised(d, c, h)
        return Partials(inside, None, inside * (y - h) / th + above if learned else None)
    if d.emit == "integer":
        u = divided(h, th)
        window = raised(within_window(c, u), c.slopes.floor)
        s = u.clamp(0, d.levels).round()
        s_h = window / th
        return Partials(s_h, None if d.detach_reset else 1 - window, -s_h * u, -s if d.detach_reset else window * u - s)
    p, positive = derivative(d.surrogate, c.slopes, h - th), fires(d, h, th)
    if d.emit == "binary":
        return spike_partials(d, c, h, p, None, positive, None, learned)
    n, negative = derivative(d.surrogate, c.slopes, -h - r * th), fires_negative(d, h, th)
    return spike_partials(d, c, h, p, n, positive, negative, learned)


def bytes_for(T: int, bits: int) -> int:
    """Bytes per element that hold `bits` bits of each of T steps; a step never straddles two bytes."""
    return -(-T // (8 // bits)) if bits else 0


def packed_into(byte: Tensor | None, found: list[Tensor], first: int) -> Tensor:
    """The masks as the bits of `byte` from `first` on; in float, where sums of powers of two are exact and fast."""
    for k, mask in enumerate(found, first):
        byte = mask * float(1 << k) if byte is None else torch.add(byte, mask, alpha=float(1 << k))
    assert byte is not None
    return byte


def forward(
    d: Dynamics, x_seq: Tensor, v: Tensor | None, decay: Tensor | None, threshold: Tensor | None, save: bool,
    return_v: bool, slopes: Slopes | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """x_seq [T, M] -> y_seq [T, M], packed bits [bytes, M] (0 bytes unless `save`), v [M] (empty unless `return_v`).

    `slopes`: in place of those of the dynamics.
    """
    T = x_seq.shape[0]
    dtype = compute_dtype(x_seq.dtype)
    c = constants(d, decay, threshold, slopes)
    bits = d.bits(decay is not None, threshold is not None) if save else 0
    y_seq: list[Tensor] = []
    packed: list[Tensor] = []
    if v is None and d.v_init != 0:
        v = torch.full_like(x_seq[0], d.v_init, dtype=dtype)
    byte: Tensor | None = None
    per_byte = 8 // bits if bits else 1
    for t in range(T):
        x = x_seq[t].to(dtype)
        h = x if d.memoryless else charge(c, v, x)
        s, v = step(d, c, h)
        y_seq.append(s.to(x_seq.dtype))
        if bits:
            byte = packed_into(byte, masks(d, c, h, bits), t % per_byte * bits)
            if t % per_byte == per_byte - 1 or t == T - 1:
                packed.append(byte.to(torch.uint8))
                byte = None
    none = x_seq.new_empty(0, dtype=dtype)
    return (
        torch.stack(y_seq),
        torch.stack(packed) if packed else x_seq.new_empty((0, x_seq.shape[1]), dtype=torch.uint8),
        v if return_v and v is not None else none,
    )


def backward(
    d: Dynamics, grad_y_seq: Tensor, grad_v: Tensor | None, saved: Tensor, v: Tensor | None, decay: Tensor | None,
    threshold: Tensor | None, return_v: bool, slopes: Slopes | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x_seq [T, M], v [M] (empty unless `return_v`), decay and threshold (empty unless learned).

    `saved` is the packed bits, or x_seq where `Dynamics.bits` is 0. `grad_v`: of the last membrane, if it was returned.
    """
    T = grad_y_seq.shape[0]
    dtype = compute_dtype(grad_y_seq.dtype)
    c = constants(d, decay, threshold, slopes)
    learned = threshold is not None
    bits = d.bits(decay is not None, learned)
    hs: list[Tensor] = []
    vs: list[Tensor | None] = []
    if not bits:
        if v is None and d.v_init != 0:
            v = torch.full_like(saved[0], d.v_init, dtype=dtype)
        for t in range(T):
            vs.append(v)
            hs.append(saved[t].to(dtype) if d.memoryless else charge(c, v, saved[t].to(dtype)))
            if not d.memoryless and t < T - 1:
                _, v = step(d, c, hs[-1])
    per_byte = 8 // bits if bits else 1
    grad_x_seq: list[Tensor] = []
    carried = None if grad_v is None else grad_v.to(dtype)
    d_decay: Tensor | None = None
    d_threshold: Tensor | None = None
    for t in range(T - 1, -1, -1):
        if bits:
            byte = saved[t // per_byte]
            byte = byte.to(torch.int32) if torch.compiler.is_compiling() else byte  # int32 shifts are vectorised
            first = t % per_byte * bits
            found = [((byte >> (first + k)) & 1).to(dtype) for k in range(bits)]
            p = partials_from_masks(d, c, found, learned)
        else:
            p = partials(d, c, hs[t], learned)
        g = grad_y_seq[t].to(dtype)
        if learned:
            assert p.s_th is not None
            term = g * p.s_th
            if carried is not None and p.v_th is not None:
                term = term + carried * p.v_th
            d_threshold = term if d_threshold is None else d_threshold + term
        h_grad = g * p.s_h
        if carried is not None:
            h_grad = h_grad + (carried if p.v_h is None else carried * p.v_h)
        if d.memoryless:
            grad_x_seq.append(h_grad.to(grad_y_seq.dtype))
            continue
        if decay is not None:
            # dH/d decay = v_reset - V[t-1] (+ X[t] where the input is damped too)
            before = vs[t]
            term = (d.v_reset or 0.0) - before if before is not None else h_grad.new_full((), d.v_reset or 0.0)
            if d.decay_input:
                term = term + saved[t].to(dtype)
            term = h_grad * term
            d_decay = term if d_decay is None else d_decay + term
        grad_x = h_grad if isinstance(c.gain, float) and c.gain == 1 else h_grad * c.gain
        grad_x_seq.append(grad_x.to(grad_y_seq.dtype))
        carried = h_grad if isinstance(c.keep, float) and c.keep == 1 else h_grad * c.keep
    none = grad_y_seq.new_empty(0, dtype=dtype)
    return (
        torch.stack(grad_x_seq[::-1]),
        carried if return_v and carried is not None else none,
        none.new_empty(0) if d_decay is None else d_decay.sum(dtype=torch.float64).to(dtype),
        none.new_empty(0) if d_threshold is None else d_threshold.sum(dtype=torch.float64).to(dtype),
    )
