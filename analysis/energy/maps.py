"""Operations between layers: sums, pools and upsampling of whole maps, which no module stands for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Operators that only arrange, create or convert values: views, copies, borders, concatenations.
MOVES = (
    "view", "reshape", "flatten", "unflatten", "expand", "permute", "transpose", "squeeze", "unsqueeze", "select",
    "slice", "narrow", "alias", "detach", "to.", "_to_copy", "copy", "clone", "contiguous", "cat", "stack", "split",
    "chunk", "unbind", "pad", "zeros", "ones", "full", "empty", "arange", "fill", "repeat", "flip", "movedim", "t.",
    "lift", "scalar", "item", "is_", "equal", "pixel_", "index", "gather", "unfold", "real", "imag", "complex",
    "tensor",
)  # fmt: skip
# Over the steps, or the slots of an integer: the accumulators of the next layer, or of this one, do that.
MEANS = ("mean", "sum.")


class MapOperations(TorchDispatchMode):
    """Within the block `see(kind, inputs, output, arguments)` is called for every operation on maps, while not
    `paused`; and `excluded` counts the elements of operations of a kind that is not known.

    A kind is sum, max_pool, average_pool (and adaptive_ of both), upsample, fourier, batch_norm or other. Maps are
    tensors of four axes and more.
    """

    def __init__(self, see: Callable[[str, list[Tensor], Tensor, tuple], None]):
        super().__init__()
        self.see = see
        self.paused = 1  # depth of modules that are counted as a whole
        self.excluded: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if self.paused:
            return result
        output = result[0] if isinstance(result, (tuple, list)) and result else result
        if not isinstance(output, Tensor) or output.dim() < 4:
            return result
        if not (output.is_floating_point() or output.is_complex()):
            return result
        name = str(function).removeprefix("aten.")
        inputs = [x for x in args if isinstance(x, Tensor)] or [x for x in _first(args) if isinstance(x, Tensor)]
        kind = self._kind(name, args)
        if kind is None:
            self.excluded[name.partition(".")[0].strip("_")] += output.numel()
            kind = "other"
        self.paused += 1
        self.see(kind, inputs, output, args)
        self.paused -= 1
        return result

    @staticmethod
    def _kind(name: str, args: tuple) -> str | None:
        """None: an operation that is not counted."""
        if "batch_norm" in name:
            return "batch_norm"
        if "pool" in name and ("max" in name or "avg" in name):
            return ("adaptive_" if "adaptive" in name else "") + ("max_pool" if "max" in name else "average_pool")
        if "upsample" in name:
            return "upsample"
        if "fft" in name:
            return "fourier"
        if name.startswith(("add.Tensor", "add_.Tensor", "sub.Tensor", "sub_.Tensor")):
            return "sum"
        if name.startswith(MEANS):
            axes = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else [-1]
            return "other" if all(axis % args[0].dim() < args[0].dim() - 3 for axis in axes) else None
        return "other" if name.startswith(MOVES) or name.strip("_").startswith(MOVES) else None


def columns_of(kind: str, inputs: list[Tensor], output: Tensor, args: tuple) -> dict[str, float]:
    """What an operation of all images computes and moves: additions, comparisons, macs, reads, reads_once, writes."""
    read, written = float(sum(x.numel() for x in inputs)), float(output.numel())
    columns = dict(reads=read, reads_once=read, writes=written, additions=0.0, comparisons=0.0, macs=0.0)
    same = [x for x in inputs if x.numel() == output.numel()]
    if kind == "sum":
        columns["additions"] = max(len(same) - 1, 1) * written
    elif kind == "batch_norm":
        columns["macs"], columns["reads"], columns["reads_once"] = written, written, written
    elif kind == "fourier":  # of N real values 2.5 N log2 N operations, two fifths of them multiplications
        real = inputs[0] if inputs[0].is_floating_point() else output
        work = real.numel() * math.log2(max(math.prod(real.shape[-2:]), 2))
        columns["macs"], columns["additions"] = work, work * 1.5
    elif "pool" in kind:
        size = inputs[0].numel() / output.numel() if kind.startswith("adaptive") else window(args[1])
        columns["reads"] = size * written
        columns["comparisons" if "max" in kind else "additions"] = (size - 1) * written
        columns["macs"] = 0.0 if "max" in kind else written
    return columns


def window(size: int | list[int]) -> int:
    """Elements of a square window of this size, or of one of these sizes."""
    sizes = [size] if isinstance(size, int) else list(size)
    return math.prod(sizes) if len(sizes) > 1 else sizes[0] ** 2


def _first(args: tuple) -> list[torch.Tensor]:
    return list(args[0]) if args and isinstance(args[0], (list, tuple)) else []
