"""Operators of ATen that act on each element, as nodes of ONNX."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from .builder import Builder, onnx_type

UNARY = {
    "relu": "Relu", "sigmoid": "Sigmoid", "exp": "Exp", "neg": "Neg", "floor": "Floor", "ceil": "Ceil", "abs": "Abs",
    "round": "Round", "sqrt": "Sqrt", "tanh": "Tanh", "log": "Log", "sin": "Sin", "cos": "Cos", "erf": "Erf",
    "reciprocal": "Reciprocal", "sign": "Sign", "logical_not": "Not",
}  # fmt: skip
BINARY = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "maximum": "Max", "minimum": "Min",
}  # fmt: skip
COMPARE = {"gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual", "eq": "Equal"}
LOGICAL = {"logical_and": "And", "logical_or": "Or", "bitwise_and": "And", "bitwise_or": "Or"}
KNOWN = {
    *UNARY, *BINARY, *COMPARE, *LOGICAL, "rsub", "ne", "where", "remainder", "clamp", "clamp_min", "clamp_max", "silu",
    "leaky_relu", "elu", "_to_copy",
}  # fmt: skip


def dtype_of(arg: Any) -> torch.dtype | None:
    return arg.meta["dtype"] if isinstance(arg, fx.Node) else None


def emit(b: Builder, op: str, node: fx.Node, args: tuple, kwargs: dict[str, Any]) -> str | None:
    """The value of `node`, an operator named `op`; None for one that is not elementwise."""
    dtype = node.meta["dtype"]
    if op in UNARY:
        return b.add(UNARY[op], [b.value(args[0])])
    if op in BINARY:
        x, y = args[:2]
        y = b.value(y, dtype)
        if (factor := kwargs.get("alpha", 1)) != 1:
            y = b.add("Mul", [y, b.value(factor, dtype)])
        return b.add(BINARY[op], [b.value(x, dtype), y])
    if op == "rsub":
        return b.add("Sub", [b.value(args[1], dtype), b.value(args[0], dtype)])
    if op in COMPARE or op == "ne":
        x, y = args[:2]
        common = torch.result_type(*(_like(a) for a in (x, y)))
        found = b.add(COMPARE.get(op, "Equal"), [b.value(x, common), b.value(y, common)])
        found = b.add("Not", [found]) if op == "ne" else found
        return found if dtype == torch.bool else b.add("Cast", [found], to=onnx_type(dtype))
    if op in LOGICAL:
        return b.add(LOGICAL[op], [b.value(a) for a in args])
    if op == "where":
        return b.add("Where", [b.value(args[0]), b.value(args[1], dtype), b.value(args[2], dtype)])
    if op == "remainder":
        # The sign of the divisor, as Python's; ONNX has it for integers alone.
        x, y = b.value(args[0], dtype), b.value(args[1], dtype)
        return b.add("Sub", [x, b.add("Mul", [b.add("Floor", [b.add("Div", [x, y])]), y])])
    if op in ("clamp", "clamp_min", "clamp_max"):
        low, high = (None, args[1]) if op == "clamp_max" else (*args[1:], *[None] * (3 - len(args)))
        low, high = kwargs.get("min", low), kwargs.get("max", high)
        bounds = [None if bound is None else b.value(bound, dtype) for bound in (low, high)]
        return b.add("Clip", [b.value(args[0]), *bounds])
    if op == "silu":
        x = b.value(args[0])
        return b.add("Mul", [x, b.add("Sigmoid", [x])])
    if op == "leaky_relu":
        return b.add("LeakyRelu", [b.value(args[0])], alpha=float(args[1]) if len(args) > 1 else 0.01)
    if op == "elu":
        return b.add("Elu", [b.value(args[0])], alpha=float(args[1]) if len(args) > 1 else 1.0)
    if op == "_to_copy":
        return b.value(args[0], dtype)
    return None


def _like(arg: Any) -> Any:
    return torch.empty(1, dtype=dtype_of(arg)) if isinstance(arg, fx.Node) else arg
