"""Surrogate derivatives: they replace the derivative of the step [x >= 0], x = H - v_threshold, in backward.

`alpha` is SpikingJelly's parameter, and its value there the default here:

    rectangle   alpha where |x| < 1 / (2 alpha), else 0             EMS-YOLO (width 1 = alpha 1); SpikingJelly's Rect
    triangle    alpha max(0, 1 - alpha |x|)                         SpikingJelly's PiecewiseQuadratic
    atan        (alpha / 2) / (1 + (pi / 2 alpha x)^2)              EAS-SNN (alpha 2)
    sigmoid     alpha s (1 - s), s = 1 / (1 + exp(-alpha x))        SpikingJelly's default (alpha 4)

`outside` keeps a gradient far from the threshold: the derivative is max(surrogate, outside m) everywhere, with m the
maximum, at x = 0, of the surrogate: alpha, alpha, alpha / 2, alpha / 4. With 0, the default, it is the published one.

I-LIF has a window: 1 where -margin <= H / v_threshold <= D + margin, else `outside`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from registry import UserError, none_of, reject_unknown

DEFAULT_ALPHA = {"rectangle": 1.0, "triangle": 1.0, "atan": 2.0, "sigmoid": 4.0}
MAXIMUM = {"rectangle": 1.0, "triangle": 1.0, "atan": 0.5, "sigmoid": 0.25}  # of the derivative, for alpha 1
SurrogateSpec = str | Mapping[str, Any]
Number = float | Tensor


class Slopes(NamedTuple):
    """What a surrogate derivative is computed from: numbers, or 0-d tensors where code is compiled for all of them."""

    alpha: Number
    half: Number  # alpha / 2
    steep: Number  # pi / 2 alpha
    window: Number  # 1 / (2 alpha)
    floor: Number  # the smallest derivative, before the division by v_threshold in I-LIF; the number 0: none
    bottom: Number  # I-LIF: ends of the window of H / v_threshold
    top: Number


def slopes(name: str, alpha: float, outside: float = 0.0, levels: int = 0, margin: float = 0.0) -> Slopes:
    floor = outside * alpha * MAXIMUM[name] if name in MAXIMUM else outside
    return Slopes(alpha, alpha / 2, math.pi / 2 * alpha, 0.5 / alpha, floor, 0.0 - margin, levels + margin)


def parse_surrogate(spec: SurrogateSpec) -> tuple[str, float, float]:
    """(name, alpha, outside) from "atan" or {"name": "atan", "alpha": 1.5, "outside": 0.1}."""
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise UserError(f"surrogate must be a name or a mapping with 'name', 'alpha' and 'outside', got {spec!r}")
    name = spec["name"]
    if name not in DEFAULT_ALPHA:
        raise UserError(none_of(f"unknown surrogate {name!r}", name, sorted(DEFAULT_ALPHA)))
    reject_unknown(spec, ["name", "alpha", "outside"], f"surrogate {name!r}")
    alpha = spec.get("alpha", DEFAULT_ALPHA[name])
    if not (isinstance(alpha, int | float) and 0 < alpha < math.inf):
        raise UserError(f"surrogate {name!r}: alpha must be a positive number, got {alpha!r}")
    outside = spec.get("outside", 0.0)
    if not (isinstance(outside, int | float) and 0 <= outside <= 1):
        raise UserError(f"surrogate {name!r}: outside must be a number from 0 to 1, got {outside!r}")
    return name, float(alpha), float(outside)


def derivative(name: str, n: Slopes, x: Tensor) -> Tensor:
    """The surrogate derivative at x, elementwise and itself differentiable."""
    if name == "rectangle":
        found = (x.abs() < n.window).to(x.dtype) * n.alpha
    elif name == "triangle":
        found = n.alpha * (1 - n.alpha * x.abs()).clamp(min=0)
    elif name == "atan":
        y = n.steep * x
        found = n.half / (1 + y * y)
    else:
        s = torch.sigmoid(n.alpha * x)
        found = n.alpha * s * (1 - s)
    return raised(found, n.floor)


def raised(found: Tensor, floor: Number) -> Tensor:
    """max(found, floor)"""
    return found if isinstance(floor, float) and floor == 0 else found.clamp(min=floor)


def number(compare: Callable[..., Tensor], a: Tensor, b: float | Tensor) -> Tensor:
    """compare(a, b) as 1 and 0 in the dtype of a. ATen does not vectorise comparisons to bool."""
    if torch.compiler.is_compiling():
        return compare(a, b).to(a.dtype)
    return compare(a, b, out=torch.empty_like(a))  # 6x faster than bool and a cast


class _Step(torch.autograd.Function):
    """[x >= 0], or [x > 0], with a surrogate derivative."""

    @staticmethod
    def forward(ctx, x: Tensor, name: str, slopes: Slopes, inclusive: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.name, ctx.slopes = name, slopes
        return number(torch.ge if inclusive else torch.gt, x, 0)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return grad * derivative(ctx.name, ctx.slopes, x), None, None, None


def spike(
    x: Tensor, name: str = "atan", alpha: float | None = None, outside: float = 0.0, inclusive: bool = True
) -> Tensor:
    """[x >= 0] (`inclusive=False`: [x > 0]) as 0 and 1 in the dtype of x, with the surrogate derivative of that name.

    `alpha`, `outside`: of the surrogate; alpha None: its default. For neurons in plain torch: `spike(h - v_threshold)`.
    """
    if name not in DEFAULT_ALPHA:
        parse_surrogate(name)  # raises
    return _Step.apply(x, name, slopes(name, DEFAULT_ALPHA[name] if alpha is None else alpha, outside), inclusive)
