"""Surrogate derivatives: they replace the derivative of the step [x >= 0], x = H - v_threshold, in backward.

`alpha` is SpikingJelly's parameter, and its value there the default here:

    rectangle   alpha where |x| < 1 / (2 alpha), else 0             EMS-YOLO (width 1 = alpha 1); SpikingJelly's Rect
    triangle    alpha max(0, 1 - alpha |x|)                         SpikingJelly's PiecewiseQuadratic
    atan        (alpha / 2) / (1 + (pi / 2 alpha x)^2)              EAS-SNN (alpha 2)
    sigmoid     alpha s (1 - s), s = 1 / (1 + exp(-alpha x))        SpikingJelly's default (alpha 4)

I-LIF has a fixed surrogate: the window, 1 where 0 <= H / v_threshold <= D.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from registry import UserError, none_of, reject_unknown

DEFAULT_ALPHA = {"rectangle": 1.0, "triangle": 1.0, "atan": 2.0, "sigmoid": 4.0}
SurrogateSpec = str | Mapping[str, Any]


def parse_surrogate(spec: SurrogateSpec) -> tuple[str, float]:
    """(name, alpha) from "atan" or {"name": "atan", "alpha": 1.5}."""
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise UserError(f"surrogate must be a name or a mapping with 'name' and 'alpha', got {spec!r}")
    name = spec["name"]
    if name not in DEFAULT_ALPHA:
        raise UserError(none_of(f"unknown surrogate {name!r}", name, sorted(DEFAULT_ALPHA)))
    reject_unknown(spec, ["name", "alpha"], f"surrogate {name!r}")
    alpha = spec.get("alpha", DEFAULT_ALPHA[name])
    if not (isinstance(alpha, int | float) and 0 < alpha < math.inf):
        raise UserError(f"surrogate {name!r}: alpha must be a positive number, got {alpha!r}")
    return name, float(alpha)


def derivative(name: str, alpha: float, x: Tensor) -> Tensor:
    """The surrogate derivative at x, elementwise and itself differentiable."""
    if name == "rectangle":
        return (x.abs() < 0.5 / alpha).to(x.dtype) * alpha
    if name == "triangle":
        return alpha * (1 - alpha * x.abs()).clamp(min=0)
    if name == "atan":
        y = (math.pi / 2 * alpha) * x
        return (alpha / 2) / (1 + y * y)
    s = torch.sigmoid(alpha * x)
    return alpha * s * (1 - s)


def number(compare: Callable[..., Tensor], a: Tensor, b: float | Tensor) -> Tensor:
    """compare(a, b) as 1 and 0 in the dtype of a. ATen does not vectorise comparisons to bool."""
    if torch.compiler.is_compiling():
        return compare(a, b).to(a.dtype)
    return compare(a, b, out=torch.empty_like(a))  # 6x faster than bool and a cast


class _Step(torch.autograd.Function):
    """[x >= 0], or [x > 0], with a surrogate derivative."""

    @staticmethod
    def forward(ctx, x: Tensor, name: str, alpha: float, inclusive: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.name, ctx.alpha = name, alpha
        return number(torch.ge if inclusive else torch.gt, x, 0)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return grad * derivative(ctx.name, ctx.alpha, x), None, None, None


def spike(x: Tensor, name: str = "atan", alpha: float | None = None, inclusive: bool = True) -> Tensor:
    """[x >= 0] (`inclusive=False`: [x > 0]) as 0 and 1 in the dtype of x, with the surrogate derivative of that name.

    `alpha`: of the surrogate, None: its default. For neurons in plain torch: `spike(h - v_threshold)`.
    """
    if name not in DEFAULT_ALPHA:
        parse_surrogate(name)  # raises
    return _Step.apply(x, name, DEFAULT_ALPHA[name] if alpha is None else alpha, inclusive)
