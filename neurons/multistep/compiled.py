"""The formulas through torch.compile: one compilation per dynamics and T, for every size, kept on disk by Inductor."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import formulas
from .dynamics import Dynamics

MAX_T = 16  # time is unrolled: above, compiling takes too long for what it saves


def _forward(d: Dynamics, x_seq, v, decay, threshold, save: bool, return_v: bool):
    return formulas.forward(d, x_seq, v, decay, threshold, save, return_v)


def _backward(d: Dynamics, grad_y_seq, grad_v, saved, v, decay, threshold, return_v: bool):
    return formulas.backward(d, grad_y_seq, grad_v, saved, v, decay, threshold, return_v)


@functools.cache
def _compiled(function: Callable, key: tuple) -> Callable[..., Any]:
    """A compiled copy of `function` with a code object of its own: PyTorch counts recompilations per code object."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{abs(hash(key))}")
    copy = types.FunctionType(code, function.__globals__, code.co_name)
    return torch.compile(copy, fullgraph=True, options={"cpp.dynamic_threads": True})


def _dynamic(x: Tensor | None) -> Tensor | None:
    """Mark the last axis as one of any size; sizes 0 and 1 would be compiled apart."""
    if x is not None and x.ndim and x.shape[-1] > 1:
        torch._dynamo.mark_dynamic(x, x.ndim - 1)
    return x


def forward(d: Dynamics, x_seq: Tensor, v, decay, threshold, save: bool, return_v: bool):
    if x_seq.shape[0] > MAX_T or x_seq.shape[1] == 1:
        return formulas.forward(d, x_seq, v, decay, threshold, save, return_v)
    run = _compiled(
        _forward, (d, x_seq.shape[0], x_seq.dtype, v is None, decay is None, threshold is None, save, return_v)
    )
    with torch.no_grad():
        return run(d, _dynamic(x_seq.contiguous()), _dynamic(v), decay, threshold, save, return_v)


def backward(d: Dynamics, grad_y_seq: Tensor, grad_v, saved, v, decay, threshold, return_v: bool):
    if grad_y_seq.shape[0] > MAX_T or grad_y_seq.shape[1] == 1:
        return formulas.backward(d, grad_y_seq, grad_v, saved, v, decay, threshold, return_v)
    key = (
        d,
        grad_y_seq.shape[0],
        grad_y_seq.dtype,
        grad_v is None,
        v is None,
        decay is None,
        threshold is None,
        return_v,
    )
    run = _compiled(_backward, key)
    arguments = [_dynamic(t) for t in (grad_y_seq.contiguous(), grad_v, saved.contiguous(), v)]
    with torch.no_grad():
        return run(d, *arguments, decay, threshold, return_v)
