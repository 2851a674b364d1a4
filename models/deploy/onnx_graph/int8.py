"""int8 by QDQ (QuantizeLinear, DequantizeLinear), where spikes stay what they are and only currents are rounded.

Convolutions are quantised: weights int8 per channel, inputs and outputs 8 bits per tensor. Inputs that lie on a grid
(`grid.py`: spikes) have its unit as scale and zero point 0, so that nothing of them is rounded. Neurons run on float32.
The first convolutions (real inputs) and the last ones (logits), and what decodes them, stay float32: boxes in pixels
and scores have no common scale.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import shape_inference
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from torch import Tensor

from registry import UserError

from .grid import Grid, grids

CONVOLUTIONS = ("Conv", "ConvTranspose")


def to_int8(model: onnx.ModelProto, inputs: Iterable[Tensor]) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The quantised model, and the numbers of convolutions: `int8`, `exact` of them (inputs without rounding), `float`.

    inputs: batches of the training split, by which the ranges of currents are measured. UserError for a network whose
    convolutions all are first or last ones.
    """
    model = shape_inference.infer_shapes(model)
    convolutions = [node for node in model.graph.node if node.op_type in CONVOLUTIONS]
    ends = _ends(model)
    quantised = [node for node in convolutions if node.name not in ends]
    if not quantised:
        raise UserError("int8: this network has no convolutions but the first and the last ones, which stay float32")
    known = grids(model)
    exact = [node for node in quantised if node.input[0] in known and known[node.input[0]].exact]
    overrides: dict[str, list[dict[str, Any]]] = {}
    for node in exact:
        grid = known[node.input[0]]
        kind = QuantType.QUInt8 if grid.low >= 0 else QuantType.QInt8
        overrides[node.input[0]] = [_scale(grid, kind)]
        if kind == QuantType.QInt8:  # integer kernels need one type on both sides
            overrides.setdefault(node.output[0], [{"quant_type": kind}])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        before = logging.root.level
        logging.root.setLevel(logging.ERROR)  # it advises a preprocessing that is done here already
        try:
            quantize_static(
                model, path, _Reader(inputs), QuantFormat.QDQ, list(CONVOLUTIONS), per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                nodes_to_quantize=[node.name for node in quantised], calibrate_method=CalibrationMethod.MinMax,
                extra_options={"TensorQuantOverrides": overrides, "QDQKeepRemovableActivations": True},
            )  # fmt: skip
        finally:
            logging.root.setLevel(before)
        found = onnx.load(path)
    counts = {"int8": len(quantised), "exact": len(exact), "float": len(convolutions) - len(quantised)}
    return found, counts


def _scale(grid: Grid, kind: QuantType) -> dict[str, Any]:
    zero = np.array(0, np.uint8 if kind == QuantType.QUInt8 else np.int8)
    return {"quant_type": kind, "scale": np.array(grid.unit, np.float32), "zero_point": zero}


def _ends(model: onnx.ModelProto) -> set[str]:
    """Names of the convolutions before which, or behind which, there is no other one."""
    nodes = list(model.graph.node)
    forward = _outermost((node, node.input, node.output) for node in nodes)
    return forward | _outermost((node, node.output, node.input) for node in reversed(nodes))


def _outermost(nodes: Iterable[tuple[onnx.NodeProto, Sequence[str], Sequence[str]]]) -> set[str]:
    """Names of the convolutions that no earlier one of `nodes` leads to. nodes: (node, the values that lead to it, and
    those it leads to)."""
    reached: set[str] = set()  # values that a convolution leads to
    found = set()
    for node, near, far in nodes:
        behind, convolves = not reached.isdisjoint(near), node.op_type in CONVOLUTIONS
        if convolves and not behind:
            found.add(node.name)
        if convolves or behind:
            reached.update(far)
    return found


class _Reader(CalibrationDataReader):
    def __init__(self, inputs: Iterable[Tensor]):
        self.inputs: Iterator[Tensor] = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        x = next(self.inputs, None)
        return None if x is None else {"x": x.contiguous().numpy()}
