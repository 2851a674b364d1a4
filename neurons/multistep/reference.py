"""The dynamics in plain autograd, step by step: the reference that every backend is tested against.

Also used for double backward, which the hand-written gradients do not support.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..surrogate import spike
from .dynamics import Dynamics
from .formulas import compute_dtype, constants


class _Quantise(torch.autograd.Function):
    """round_half_even or floor of clip(u, 0, levels); gradient 1 where -margin <= u <= levels + margin (floor: where
    0 <= u < levels), else `outside`."""

    @staticmethod
    def forward(ctx, u: Tensor, levels: int, floor: bool, margin: float, outside: float) -> Tensor:
        ctx.save_for_backward((u >= -margin) & ((u < levels) if floor else (u <= levels + margin)))
        ctx.outside = outside
        u = u.clamp(0, levels)
        return u.floor() if floor else u.round()

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        (inside,) = ctx.saved_tensors
        return torch.where(inside, grad, ctx.outside * grad), None, None, None, None


def reference(
    d: Dynamics, x_seq: Tensor, v: Tensor | None = None, decay: Tensor | None = None, threshold: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """x_seq [T, ...] -> y_seq [T, ...] in its dtype, and the membrane V after the last step."""
    dtype = compute_dtype(x_seq.dtype)
    keep, gain, rest, th, _ = constants(d, decay, threshold)
    v = torch.full_like(x_seq[0], d.v_init, dtype=dtype) if v is None else v
    y_seq = []
    for x in x_seq.to(dtype):
        h = x if d.memoryless else keep * v + gain * x + rest
        held = (lambda s: s.detach()) if d.detach_reset else (lambda s: s)
        if d.emit in ("binary", "ternary"):
            s = p = spike(h - th, d.surrogate, d.alpha, d.outside, d.inclusive)
            fired, crossed = p, p
            if d.emit == "ternary":
                n = spike(-h - d.negative * th, d.surrogate, d.alpha, d.outside)
                s, fired, crossed = p - n, p + n, p - d.negative * n
            if d.v_reset is None:
                v = h - th * held(crossed)
            else:
                v = (1 - held(fired)) * h + held(fired) * d.v_reset
        elif d.emit == "integer":
            s = _Quantise.apply(h / th, d.levels, False, d.margin, d.outside)
            v = h - th * held(s)
        elif d.emit == "silu":
            s = F.silu(h)
            v = (s if d.carries_output else h) * (1 - s.detach())
        elif d.emit == "qcfs":
            s = th / d.levels * _Quantise.apply(h * (d.levels / th) + 0.5, d.levels, True, 0.0, 0.0)
        else:
            positive, negative = torch.where(h > th, th, h), torch.where(d.slope * h < -th, -th, d.slope * h)
            s = torch.where(h >= 0, positive, negative)
        y_seq.append(s.to(x_seq.dtype))
    return torch.stack(y_seq), v
