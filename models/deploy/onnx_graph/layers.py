"""Convolutions, pools, resampling and sums of ATen as nodes of ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnx import numpy_helper
from torch import Tensor, fx

from registry import UserError

from .builder import Builder
from .trace import name_of


def emit(b: Builder, op: str, node: fx.Node, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The value of `node`, an operator named `op`, a list of several; None for an operator of another kind."""
    emitter = OPERATORS.get(op)
    return None if emitter is None else emitter(b, node, *args, **kwargs)


def _convolution(b: Builder, node, x, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
    attributes = {"strides": stride, "pads": [*padding, *padding], "dilations": dilation, "group": groups}
    if transposed:
        attributes["output_padding"] = output_padding
    parts = [b.value(x), b.value(weight), None if bias is None else b.value(bias)]
    return b.add("ConvTranspose" if transposed else "Conv", parts, **attributes)


def _native_batch_norm(b: Builder, node, x, weight, bias, mean, var, training, momentum, eps):
    if training:
        raise UserError("BatchNorm in training mode cannot be exported: call model.eval()")
    mean, var = b.constants[mean], b.constants[var]
    weight = torch.ones_like(mean) if weight is None else b.constants[weight]
    bias = torch.zeros_like(mean) if bias is None else b.constants[bias]
    if (folded := _folded(b, x, weight, bias, mean, var, eps)) is not None:
        return [folded, None, None]
    return [b.add("BatchNormalization", [b.value(x), weight, bias, mean, var], epsilon=float(eps)), None, None]


def _native_batch_norm_legit_no_training(b: Builder, node, x, weight, bias, mean, var, momentum, eps):
    return _native_batch_norm(b, node, x, weight, bias, mean, var, False, momentum, eps)


def _folded(b: Builder, x: fx.Node, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> str | None:
    """BatchNorm within the convolution before it, if nothing else takes its output."""
    name = b.names.get(x)
    conv = next((n for n in reversed(b.nodes) if name in n.output), None)
    if conv is None or conv.op_type != "Conv" or not _only_use(x):
        return None
    weights = [torch.from_numpy(numpy_helper.to_array(b.initializers[i]).copy()) for i in conv.input[1:]]
    scale = weight / torch.sqrt(var + eps)
    shift = bias - mean * scale + (weights[1] * scale if len(weights) > 1 else 0)
    called = conv.input[1]
    del conv.input[1:]
    stem = called.removesuffix("weight")
    conv.input.extend([b.constant(weights[0] * scale.view(-1, 1, 1, 1), f"{stem}weight.folded"),
                       b.constant(shift, f"{stem}bias.folded")])  # fmt: skip
    return name


def _only_use(x: fx.Node) -> bool:
    """Whether nothing but one operator takes what a convolution gives, in changes of shape until `x`."""
    while len(x.users) == 1:
        if name_of(x) not in ("view", "_unsafe_view"):
            return name_of(x) == "convolution"
        x = x.args[0]  # type: ignore[assignment]
    return False


def _max_pool2d_with_indices(b: Builder, node, x, kernel, stride=(), padding=(0, 0), dilation=(1, 1), ceil_mode=False):
    attributes: dict[str, Any] = dict(
        kernel_shape=_pair(kernel), strides=_pair(stride or kernel), pads=_pair(padding) * 2,
        dilations=_pair(dilation), ceil_mode=int(ceil_mode),
    )  # fmt: skip
    if not any(user.args[1] == 1 for user in node.users):
        return [b.add("MaxPool", [b.value(x)], **attributes), None]
    y, index = b.add("MaxPool", [b.value(x)], outputs=2, **attributes)
    height, width = x.meta["shape"][-2:]  # those of ONNX run over the whole tensor, those of ATen over a map
    return [y, b.add("Mod", [index, b.constant([height * width])])]


def _avg_pool2d(
    b: Builder, node, x, kernel, stride=(), padding=(0, 0), ceil_mode=False, count_include_pad=True, divisor=None
):
    if divisor is not None:
        raise UserError("avg_pool2d with divisor_override has no operator in ONNX")
    return b.add(
        "AveragePool", [b.value(x)], kernel_shape=_pair(kernel), strides=_pair(stride or kernel),
        pads=_pair(padding) * 2, ceil_mode=int(ceil_mode), count_include_pad=int(count_include_pad),
    )  # fmt: skip


def _adaptive_avg_pool2d(b: Builder, node, x, size):
    if list(size) != [1, 1]:
        raise UserError(f"adaptive_avg_pool2d to {list(size)} has no operator in ONNX, but to 1 x 1")
    return b.add("GlobalAveragePool", [b.value(x)])


def _upsample_nearest2d(b: Builder, node, x, size, *scales):
    return _resize(b, node, x, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def _upsample_bilinear2d(b: Builder, node, x, size, align_corners, *scales):
    how = "align_corners" if align_corners else "half_pixel"
    return _resize(b, node, x, mode="linear", coordinate_transformation_mode=how)


def _resize(b: Builder, node, x, **attributes):
    scales = [float(n) / float(m) for n, m in zip(node.meta["shape"][-2:], x.meta["shape"][-2:], strict=True)]
    factors = b.constant(torch.tensor([1.0, 1.0, *scales]))
    return b.add("Resize", [b.value(x), None, factors], **attributes)


def _mm(b: Builder, node, x, y):
    return b.add("MatMul", [b.value(x), b.value(y)])


def _addmm(b: Builder, node, bias, x, y):
    return b.add("Gemm", [b.value(x), b.value(y), b.value(bias)])


def _softmax(b: Builder, node, x, dim, half_to_float=False):
    return b.add("Softmax", [b.value(x)], axis=dim)


def _sum(b: Builder, node, x, dims=None, keepdim=False, dtype=None):
    return b.add("ReduceSum", [b.value(x, node.meta["dtype"]), _axes(b, x, dims)], keepdims=int(keepdim))


def _mean(b: Builder, node, x, dims=None, keepdim=False, dtype=None):
    return b.add("ReduceMean", [b.value(x, node.meta["dtype"])], axes=_dims(x, dims), keepdims=int(keepdim))


def _amax(b: Builder, node, x, dims=(), keepdim=False):
    return b.add("ReduceMax", [b.value(x)], axes=_dims(x, dims), keepdims=int(keepdim))


def _amin(b: Builder, node, x, dims=(), keepdim=False):
    return b.add("ReduceMin", [b.value(x)], axes=_dims(x, dims), keepdims=int(keepdim))


def _cumsum(b: Builder, node, x, dim, dtype=None):
    return b.add("CumSum", [b.value(x, node.meta["dtype"]), b.constant(dim)])


def _dims(x: fx.Node, dims: Any) -> list[int]:
    rank = len(x.meta["shape"])
    return [d % rank for d in ([dims] if isinstance(dims, int) else dims or range(rank))]


def _axes(b: Builder, x: fx.Node, dims: Any) -> str:
    return b.constant(_dims(x, dims))


def _pair(value: Any) -> list[int]:
    return [value] * 2 if isinstance(value, int) else list(value) * (2 if len(value) == 1 else 1)


OPERATORS: dict[str, Callable[..., Any]] = {
    "convolution": _convolution, "native_batch_norm": _native_batch_norm,
    "_native_batch_norm_legit_no_training": _native_batch_norm_legit_no_training,
    "max_pool2d_with_indices": _max_pool2d_with_indices, "avg_pool2d": _avg_pool2d,
    "_adaptive_avg_pool2d": _adaptive_avg_pool2d, "upsample_nearest2d": _upsample_nearest2d,
    "upsample_bilinear2d": _upsample_bilinear2d, "mm": _mm, "bmm": _mm, "addmm": _addmm, "_softmax": _softmax,
    "sum": _sum, "mean": _mean, "amax": _amax, "amin": _amin, "cumsum": _cumsum,
}  # fmt: skip
