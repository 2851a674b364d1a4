"""Convolutions of simulated steps on a CPU, whose weights are put into oneDNN's layout once, not at every step."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PackedConv2d(nn.Conv2d):
    """A Conv2d for evaluation with the weights of `conv`.

    PyTorch reorders the weights of a CPU convolution at every call, which for few pixels and many channels takes up to
    a third of its time. Here the reordered weights are kept as long as weight and shape of the input stay the same, by
    the operators of torch.compile (`freezing`, checked with torch 2.14.1). Where they are missing, on other devices
    and for other types it is a plain convolution; also with `packs` False, for graphs of PyTorch's own operators.
    """

    packs = True

    def __init__(self, conv: nn.Conv2d):
        sizes = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        super().__init__(*sizes, groups=conv.groups, padding_mode=conv.padding_mode, device="meta")  # type: ignore[arg-type]
        self.weight, self.bias = conv.weight, conv.bias
        self._packed: tuple[Any, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not (_PACKS and self.packs) or torch.is_grad_enabled() or x.dtype != torch.float32 or x.device.type != "cpu":
            return super().forward(x)
        if torch.compiler.is_compiling() or not isinstance(self.padding, tuple) or self.padding_mode != "zeros":
            return super().forward(x)
        version = 0 if self.weight.is_inference() else self.weight._version
        key = (self.weight.data_ptr(), version, x.shape)
        if self._packed is None or self._packed[0] != key:
            self._packed = key, _reorder(self.weight.to_mkldnn(), *self._layout(), list(x.shape))
        x = x.contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise(x, self._packed[1], self.bias, *self._layout(), "none", [], "")

    def _layout(self) -> tuple[list[int], list[int], list[int], int]:
        return list(self.padding), list(self.stride), list(self.dilation), self.groups  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_packed": None}


def _packs() -> bool:
    """Whether this PyTorch has the operators, and they give the convolution."""
    try:
        x, w, b = torch.rand(1, 4, 6, 6), torch.rand(8, 4, 3, 3), torch.rand(8)
        packed = _reorder(w.to_mkldnn(), [1, 1], [1, 1], [1, 1], 1, [1, 4, 6, 6])
        y = torch.ops.mkldnn._convolution_pointwise(x, packed, b, [1, 1], [1, 1], [1, 1], 1, "none", [], "")
        return torch.allclose(y, F.conv2d(x, w, b, 1, 1), atol=1e-4)
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False


_reorder: Any = getattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", None)
_PACKS = _reorder is not None and _packs()
