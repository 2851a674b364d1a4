"""Operators of ATen that move, join, cut and fill tensors as nodes of ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from registry import UserError

from .builder import Builder
from .trace import Images, Size, name_of

LAST = 1 << 62  # beyond the end of an axis


def emit(b: Builder, op: str, node: fx.Node, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The value of `node`, an operator named `op`, a list of several; None for an operator of another kind."""
    if op in SAME:
        return b.value(args[0])
    emitter = OPERATORS.get(op)
    return None if emitter is None else emitter(b, node, *args, **kwargs)


SAME = {"alias", "clone", "contiguous", "detach", "lift_fresh_copy", "lift_fresh"}


def _view(b: Builder, node: fx.Node, x: fx.Node, *_: Any) -> str:
    """A change of shape; several after each other are one, and one that leads back is none."""
    root = x
    while root not in b.constants and name_of(root) in ("view", "_unsafe_view"):
        root = root.meta["args"][0]
    shape = node.meta["shape"]
    if root.meta["shape"] == shape:
        return b.value(root)
    if sum(isinstance(size, Images) for size in shape) > 1:
        return b.add("Reshape", [b.value(root), b.sizes(shape)])
    return b.add("Reshape", [b.value(root), b.constant([-1 if isinstance(s, Images) else s for s in shape])])


def _unsqueeze(b: Builder, node, x, dim):
    return b.add("Unsqueeze", [b.value(x), b.constant([dim % len(node.meta["shape"])])])


def _squeeze(b: Builder, node, x, dim):
    dims = [d % len(x.meta["shape"]) for d in ([dim] if isinstance(dim, int) else dim)]
    dims = [d for d in dims if x.meta["shape"][d] == 1]
    return b.add("Squeeze", [b.value(x), b.constant(dims)]) if dims else b.value(x)


def _permute(b: Builder, node, x, dims):
    return b.add("Transpose", [b.value(x)], perm=[d % len(dims) for d in dims])


def _transpose(b: Builder, node, x, first, second):
    order = list(range(len(x.meta["shape"])))
    order[first], order[second] = order[second], order[first]
    return b.add("Transpose", [b.value(x)], perm=order)


def _expand(b: Builder, node, x, sizes, implicit=False):
    before, after = x.meta["shape"], node.meta["shape"]
    before = [1] * (len(after) - len(before)) + before
    wanted = [1 if old == new else new for old, new in zip(before, after, strict=True)]
    if all(size == 1 for size in wanted) and len(after) == len(x.meta["shape"]):
        return b.value(x)
    return b.add("Expand", [b.value(x), b.sizes(wanted)])


def _cat(b: Builder, node, tensors, dim=0):
    tensors = [t for t in tensors if t.meta["shape"] != [0]]  # torch ignores empty ones of one axis
    return b.add("Concat", [b.value(t, node.meta["dtype"]) for t in tensors], axis=dim % len(node.meta["shape"]))


def _stack(b: Builder, node, tensors, dim=0):
    axis = dim % len(node.meta["shape"])
    parts = [b.add("Unsqueeze", [b.value(t), b.constant([axis])]) for t in tensors]
    return b.add("Concat", parts, axis=axis)


def _cut(b: Builder, x: fx.Node, sizes: Sequence[Size], dim: int) -> list[str]:
    axis = dim % len(x.meta["shape"])
    if len(sizes) == 1:
        return [b.value(x)]
    return b.add("Split", [b.value(x), b.sizes(sizes)], outputs=len(sizes), axis=axis)


def _split(b: Builder, node, x, size, dim=0):
    return _cut(b, x, [shape[dim] for shape in node.meta["shape"]], dim)


def _unbind(b: Builder, node, x, dim=0):
    axis = dim % len(x.meta["shape"])
    parts = _cut(b, x, [1] * len(node.meta["shape"]), axis)
    return [b.add("Squeeze", [part, b.constant([axis])]) for part in parts]


def _select(b: Builder, node, x, dim, index):
    if isinstance(index, Images):
        raise UserError("an index that depends on the number of images cannot be exported: --batch 1")
    return b.add("Gather", [b.value(x), b.constant(index)], axis=dim % len(x.meta["shape"]))


def _slice(b: Builder, node, x, dim=0, start=None, end=None, step=1):
    axis, shape = dim % len(x.meta["shape"]), x.meta["shape"]
    if node.meta["shape"] == shape and step == 1:
        return b.value(x)
    if isinstance(start, Images) or isinstance(end, Images):
        raise UserError("a cut that depends on the number of images cannot be exported: --batch 1")
    end = LAST if end is None else min(end, LAST)
    bounds = [b.constant([number]) for number in (start or 0, end, axis, step)]
    return b.add("Slice", [b.value(x), *bounds])


def _flip(b: Builder, node, x, dims):
    dims = [d % len(x.meta["shape"]) for d in dims]
    bounds = [[-1] * len(dims), [-LAST] * len(dims), dims, [-1] * len(dims)]
    return b.add("Slice", [b.value(x), *map(b.constant, bounds)])


def _pad(mode: str):
    def emit_pad(b: Builder, node, x, widths, value=0.0):
        # torch: the last axis first, both ends of each; ONNX: all beginnings, then all ends
        rank, pairs = len(x.meta["shape"]), len(widths) // 2
        before = [0] * (rank - pairs) + [widths[2 * i] for i in reversed(range(pairs))]
        after = [0] * (rank - pairs) + [widths[2 * i + 1] for i in reversed(range(pairs))]
        filled = [b.value(value, node.meta["dtype"])] if mode == "constant" else []
        return b.add("Pad", [b.value(x), b.constant(before + after), *filled], mode=mode)

    return emit_pad


def _gather(b: Builder, node, x, dim, index, sparse_grad=False):
    return b.add("GatherElements", [b.value(x), b.value(index)], axis=dim % len(x.meta["shape"]))


def _pixel_shuffle(b: Builder, node, x, factor):
    maps = b.add("Reshape", [b.value(x), b.constant([-1, *x.meta["shape"][-3:]])])
    maps = b.add("DepthToSpace", [maps], blocksize=factor, mode="CRD")
    return b.add("Reshape", [maps, b.sizes(node.meta["shape"])])


def _filled(number: float | None):
    def emit_filled(b: Builder, node, *args: Any, **_: Any):
        value = number if number is not None else args[1]
        scalar = b.value(value, node.meta["dtype"])
        return b.add("Expand", [scalar, b.sizes(node.meta["shape"])]) if node.meta["shape"] else scalar

    return emit_filled


def _new_full(b: Builder, node, x, size, value, **_: Any):
    return _filled(value)(b, node)


def _repeat(b: Builder, node, x, repeats):
    extra = len(repeats) - len(x.meta["shape"])
    value = b.value(x)
    if extra:
        value = b.add("Unsqueeze", [value, b.constant(list(range(extra)))])
    return b.add("Tile", [value, b.sizes(repeats)])


OPERATORS = {
    "view": _view, "_unsafe_view": _view, "unsqueeze": _unsqueeze, "squeeze": _squeeze, "permute": _permute,
    "transpose": _transpose, "t": lambda b, node, x: _transpose(b, node, x, 0, 1), "expand": _expand, "cat": _cat,
    "stack": _stack, "split": _split, "split_with_sizes": _split, "unbind": _unbind, "select": _select,
    "slice": _slice, "flip": _flip, "constant_pad_nd": _pad("constant"), "reflection_pad2d": _pad("reflect"),
    "replication_pad2d": _pad("edge"), "gather": _gather, "pixel_shuffle": _pixel_shuffle, "repeat": _repeat,
    "full_like": _filled(None), "full": _filled(None), "new_full": _new_full,
    "zeros": _filled(0), "zeros_like": _filled(0), "new_zeros": _filled(0), "ones": _filled(1), "ones_like": _filled(1),
    "new_ones": _filled(1),
}  # fmt: skip
