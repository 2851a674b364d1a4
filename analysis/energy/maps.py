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
MEANS = ("mean", "sum.")  # over the steps or the slots of an integer: the accumulators of the next layer hold them


class MapOperations(TorchDispatchMode):
    """Within the block `see(kind, inputs, output, arguments)` is called for every operation on maps, while not
    `paused`; and `excluded` counts the elements of operations of a kind that is not known.

    A kind is sum, max_pool, average_pool, upsample, fourier, batch_norm or other. Maps are real tensors of four axes
    and more.
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
        if not isinstance(output, Tensor) or output.dim() < 4 or not output.is_floating_point():
            return result
        name = str(function).removeprefix("aten.")
        inputs = [x for x in args if isinstance(x, Tensor)] or [x for x in _first(args) if isinstance(x, Tensor)]
        kind = self._kind(name, inputs, output)
        if kind is None:
            self.excluded[name.partition(".")[0].strip("_")] += output.numel()
            kind = "other"
        self.paused += 1
        self.see(kind, inputs, output, args)
        self.paused -= 1
        return result

    @staticmethod
    def _kind(name: str, inputs: list[Tensor], output: Tensor) -> str | None:
        """None: an operation that is not counted."""
        if "batch_norm" in name:
            return "batch_norm"
        if "max_pool" in name:
            return "max_pool"
        if "avg_pool" in name:
            return "average_pool"
        if "upsample" in name:
            return "upsample"
        if "fft" in name:
            return "fourier"
        if name.startswith(("add.Tensor", "add_.Tensor", "sub.Tensor", "sub_.Tensor")):
            return "sum"
        return "other" if name.startswith((*MOVES, *MEANS)) or name.strip("_").startswith(MOVES) else None


def window(kind: str, inputs: list[Tensor], output: Tensor, args: tuple) -> int:
    """Elements that one output of a pool is made of."""
    if len(args) > 1 and isinstance(args[1], (int, list, tuple)) and "adaptive" not in kind:
        size = args[1] if not isinstance(args[1], int) else [args[1], args[1]]
        return math.prod(size) if len(size) > 1 else size[0] ** 2
    return max(inputs[0].numel() // max(output.numel(), 1), 1)


def storage(x: Tensor) -> int:
    """What views of one tensor have in common."""
    return x.untyped_storage().data_ptr()


def _first(args: tuple) -> list[torch.Tensor]:
    return list(args[0]) if args and isinstance(args[0], (list, tuple)) else []
