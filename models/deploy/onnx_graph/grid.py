"""Tensors that 8 bits hold exactly: spikes, and what pools, concatenations and sums make of them.

    value = unit * k,   k an integer from low to high

of binary spikes unit 1 and 0..1, of I-LIF 0..D, of ternary spikes -1..1, of QCFS threshold / L and 0..L. The grid
follows from the operators alone, for every input: rounding gives integers, a clip bounds them, a comparison gives 0
and 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference


class Grid(NamedTuple):
    """unit * (low .. high), both integers; `unit` None: real numbers from low to high."""

    unit: float | None
    low: float
    high: float

    @property
    def exact(self) -> bool:
        """Whether scale `unit` and zero point 0 hold it in 8 bits, unsigned if no value is negative."""
        if self.unit is None:
            return False
        return (0 <= self.low and self.high <= 255) or (-128 <= self.low and self.high <= 127)

    @property
    def dyadic(self) -> bool:
        """Whether sums and means over powers of two are exact in float32, too: the unit is a power of two."""
        return self.unit is not None and math.frexp(self.unit)[0] == 0.5 and max(-self.low, self.high) < 1 << 24


Found = Grid | None
KEEPS = {
    "Reshape", "Transpose", "Slice", "Split", "Gather", "Squeeze", "Unsqueeze", "Expand", "Identity", "MaxPool", "Tile",
    "DepthToSpace", "GatherElements", "Cast",
}  # fmt: skip
COMPARISONS = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Not", "And", "Or"}


def grids(model: onnx.ModelProto) -> dict[str, Grid]:
    """{value: its grid}, of all values of a model that have one."""
    found: dict[str, Grid] = {}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in shape_inference.infer_shapes(model).graph.value_info
    }
    for node in model.graph.node:
        inputs = [found[name] if name in found else _constant(constants.get(name)) for name in node.input]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if (grid := _of(node, inputs, attributes, constants, shapes)) is not None:
            found |= dict.fromkeys(node.output if node.op_type == "Split" else node.output[:1], grid)
    return found


def _of(
    node: onnx.NodeProto, inputs: Sequence[Found], attributes: Mapping[str, Any], constants: Mapping[str, np.ndarray],
    shapes: Mapping[str, Sequence[int]],
) -> Found:  # fmt: skip
    op = node.op_type
    if op in COMPARISONS:
        return Grid(1.0, 0, 1)
    if op in KEEPS:
        return inputs[0]
    if op == "Resize":
        return inputs[0] if attributes["mode"] == b"nearest" else None
    if op == "Pad":
        filled = attributes.get("mode", b"constant") == b"constant"
        return _joined([inputs[0], inputs[2] if len(inputs) > 2 else Grid(1.0, 0, 0)]) if filled else inputs[0]
    if op in ("Concat", "Where"):
        return _joined(inputs if op == "Concat" else inputs[1:])
    if op == "Clip" and len(node.input) == 3 and set(node.input[1:]) <= set(constants):
        return Grid(None, *(constants[name].item() for name in node.input[1:]))
    if op in ("Round", "Floor"):
        x = inputs[0]
        return None if x is None else Grid(1.0, math.floor(x.low), math.ceil(x.high)) if x.unit is None else x
    if op in ("Add", "Sub"):
        x, y = inputs
        if x is None or y is None or x.unit != y.unit or not (x.dyadic and y.dyadic):
            return None
        low, high = (y.low, y.high) if op == "Add" else (-y.high, -y.low)
        return Grid(x.unit, x.low + low, x.high + high)
    if op == "Mul":
        return _product(node, inputs, constants)
    if op == "ReduceMean":
        number = math.prod(shapes.get(node.input[0], [0])[axis] for axis in attributes["axes"])
        return _mean(inputs[0], number)
    if op == "AveragePool" and (attributes.get("count_include_pad") or not any(attributes.get("pads", []))):
        return None if attributes.get("ceil_mode") else _mean(inputs[0], math.prod(attributes["kernel_shape"]))
    return None


def _constant(value: np.ndarray | None) -> Found:
    """Of a scalar that is an integer."""
    if value is None or value.size != 1 or not float(value.item()).is_integer():
        return None
    return Grid(1.0, float(value.item()), float(value.item()))


def _joined(parts: Sequence[Found]) -> Found:
    """Of values that stand beside each other; 0 is in every grid."""
    known = [part for part in parts if part is not None and (part.low, part.high) != (0, 0)]
    if len(known) < sum(part is None or (part.low, part.high) != (0, 0) for part in parts) or not known:
        return None
    if any(part.unit != known[0].unit or part.unit is None for part in known):
        return None
    lows, highs = zip(*((part.low, part.high) for part in parts if part is not None), strict=True)
    return Grid(known[0].unit, min(lows), max(highs))


def _product(node: onnx.NodeProto, inputs: Sequence[Found], constants: Mapping[str, np.ndarray]) -> Found:
    """Of two grids, or of one and a positive scalar."""
    for name, other in zip(node.input, reversed(inputs), strict=True):
        factor = constants.get(name)
        if factor is not None and factor.size == 1 and factor.item() > 0 and other is not None and other.unit == 1:
            return Grid(factor.item(), other.low, other.high)
    x, y = inputs
    if x is None or y is None or not (x.dyadic and y.dyadic):
        return None
    assert x.unit is not None and y.unit is not None
    corners = [a * b for a in (x.low, x.high) for b in (y.low, y.high)]
    return Grid(x.unit * y.unit, min(corners), max(corners))


def _mean(x: Found, number: int) -> Found:
    """Of the mean of so many values; exact where the number is a power of two."""
    if x is None or not x.dyadic or number < 1 or number & (number - 1):
        return None
    assert x.unit is not None
    return Grid(x.unit / number, x.low * number, x.high * number)
