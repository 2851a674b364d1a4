"""Builder: nodes, constants and names of an ONNX graph under construction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, fx

from .trace import Images, Size

DTYPES = {
    torch.float32: np.float32, torch.float64: np.float64, torch.float16: np.float16, torch.int64: np.int64,
    torch.int32: np.int32, torch.uint8: np.uint8, torch.bool: np.bool_,
}  # fmt: skip


def onnx_type(dtype: torch.dtype) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(DTYPES[dtype]))


class Builder:
    """names: of the values of nodes that are written; constants: tensors of nodes that depend on no input."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.names: dict[fx.Node, Any] = {}
        self.constants: dict[fx.Node, Any] = {}
        self.weights: dict[int, str] = {}  # {data pointer: name} of the network's parameters and buffers
        self.images: str | None = None  # value [1]: the number of images
        self._of_bytes: dict[tuple, str] = {}

    def add(self, op: str, inputs: Sequence[Any], outputs: int = 1, **attributes: Any) -> Any:
        """Names of the outputs of a new node; inputs are names, tensors, numbers or None."""
        names = [f"v{len(self.nodes)}_{i}" if outputs > 1 else f"v{len(self.nodes)}" for i in range(outputs)]
        ins = ["" if x is None else x if isinstance(x, str) else self.constant(x) for x in inputs]
        while ins and ins[-1] == "":
            ins.pop()
        self.nodes.append(helper.make_node(op, ins, names, name=f"{op}_{len(self.nodes)}", **attributes))
        return names if outputs > 1 else names[0]

    def constant(self, value: Any, name: str | None = None) -> str:
        """Name of an initializer. Ints are int64, floats float32, lists of ints int64 vectors; equal ones are one."""
        if isinstance(value, Tensor):
            name = name or self.weights.get(value.data_ptr()) if value.numel() > 1 else name
            array = np.array(value.detach().cpu().contiguous().numpy())
        else:
            kind = np.float32 if isinstance(value, float) else np.int64
            array = np.asarray(value, dtype=np.bool_ if isinstance(value, bool) else kind)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._of_bytes:
            name = name if name and name not in self.initializers else f"c{len(self.initializers)}"
            self.initializers[name] = numpy_helper.from_array(array, name)
            self._of_bytes[key] = name
        return self._of_bytes[key]

    def value(self, arg: Any, dtype: torch.dtype | None = None) -> str:
        """Name of the value of a node, or of a number as a constant; converted to `dtype`."""
        if isinstance(arg, fx.Node):
            if arg in self.constants:
                constant = self.constants[arg]
                return self.constant(constant if dtype is None else constant.to(dtype))
            name = self.names[arg]
            return name if dtype in (None, arg.meta["dtype"]) else self.add("Cast", [name], to=onnx_type(dtype))  # type: ignore[arg-type]
        return self.constant(torch.tensor(arg, dtype=dtype))

    def sizes(self, sizes: Sequence[Size]) -> str:
        """Value [n] of sizes, some of which may depend on the number of images."""
        if not any(isinstance(size, Images) for size in sizes):
            return self.constant(list(sizes))
        assert self.images is not None
        parts = [
            self.add("Mul", [self.images, self.constant([s.times])]) if isinstance(s, Images) else self.constant([s])
            for s in sizes
        ]
        return self.add("Concat", parts, axis=0)
