"""The formulas through torch.compile: one compilation per dynamics and T, for all sizes, cached on disk by Inductor."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..surrogate import Slopes
from . import formulas
from .dynamics import Dynamics

# Inductor imports torch's C++ builder, which warns at its import where a machine has CUDA's compiler but no GPU.
logging.getLogger("torch.utils.cpp_extension").addFilter(lambda record: "No CUDA runtime" not in record.getMessage())

MAX_T = 16  # time is unrolled: above, compilation takes longer than it saves


@functools.cache
def _compiled(formula: Callable[..., Any], d: Dynamics, flags: tuple[bool, ...], key: tuple) -> Callable[..., Any]:
    """(numbers, *tensors) -> formula(d, *tensors, *flags, slopes), compiled for the slopes in `numbers`, whichever they
    are; `d` is a form of dynamics, `key`: properties of the tensors that are compiled in."""

    def run(numbers: Tensor, *tensors: Tensor | None) -> Any:
        slopes = Slopes(*numbers.unbind())
        return formula(d, *tensors, *flags, slopes if d.outside else slopes._replace(floor=0.0))

    # A code object of its own: Dynamo counts recompilations per code object, and stops compiling after a few.
    run.__code__ = run.__code__.replace(co_name=f"{formula.__name__}_{abs(hash((d, flags, key)))}")
    # No guards: everything that is compiled in is part of the cache key. Checked with torch 2.14.
    options: dict[str, Any] = {"cpp.dynamic_threads": True, "guard_filter_fn": lambda guards: [False for _ in guards]}
    return torch.compile(run, fullgraph=True, options=options)


@functools.lru_cache(1024)
def _numbers(slopes: Slopes, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Computed in float64 and rounded once, as PyTorch does with Python numbers."""
    with torch.inference_mode(False):
        return torch.tensor(slopes, dtype=dtype, device=device)


def _run(formula: Callable[..., Any], d: Dynamics, tensors: tuple[Tensor | None, ...], flags: tuple[bool, ...]) -> Any:
    x_seq = tensors[0]
    assert x_seq is not None
    if x_seq.shape[0] > MAX_T or x_seq.shape[1] == 1:  # Dynamo specialises a size of 1
        return formula(d, *tensors, *flags)
    wide = x_seq.numel() >= 1 << 31  # where indices need 64 bits
    key = (x_seq.shape[0], x_seq.dtype, x_seq.device.type, wide, *(t is None for t in tensors))
    for t in tensors:
        if t is not None and t.ndim:
            torch._dynamo.mark_dynamic(t, t.ndim - 1)
    with torch.no_grad():
        numbers = _numbers(d.slopes, formulas.compute_dtype(x_seq.dtype), x_seq.device)
        return _compiled(formula, d.form, flags, key)(numbers, *tensors)


def forward(d: Dynamics, x_seq: Tensor, v, decay, threshold, save: bool, return_v: bool):
    return _run(formulas.forward, d, (x_seq.contiguous(), v, decay, threshold), (save, return_v))


def backward(d: Dynamics, grad_y_seq: Tensor, grad_v, saved, v, decay, threshold, return_v: bool):
    tensors = (grad_y_seq.contiguous(), grad_v, saved.contiguous(), v, decay, threshold)
    return _run(formulas.backward, d, tensors, (return_v,))
