"""The formulas in eager PyTorch; on a CPU in pieces whose temporaries fit its cache and need no fresh memory."""

from __future__ import annotations

import torch
from torch import Tensor

from . import formulas
from .dynamics import Dynamics

PIECE = 1 << 17


def pieces(x_seq: Tensor) -> list[slice]:
    M = x_seq.shape[1]
    size = PIECE if x_seq.device.type == "cpu" else M
    return [slice(a, min(a + size, M)) for a in range(0, M, size)]


def cut(x: Tensor | None, piece: slice) -> Tensor | None:
    return None if x is None else x[..., piece]


def forward(d: Dynamics, x_seq: Tensor, v, decay, threshold, save: bool, return_v: bool):
    parts = pieces(x_seq)
    if len(parts) == 1:
        return formulas.forward(d, x_seq, v, decay, threshold, save, return_v)
    found = None
    for piece in parts:
        part = formulas.forward(d, x_seq[:, piece], cut(v, piece), decay, threshold, save, return_v)
        found = found or tuple(p.new_empty((*p.shape[:-1], x_seq.shape[1] if p.shape[-1] else 0)) for p in part)
        for whole, p in zip(found, part, strict=True):
            if p.numel():
                whole[..., piece] = p
    return found


def backward(d: Dynamics, grad_y_seq: Tensor, grad_v, saved, v, decay, threshold, return_v: bool):
    parts = pieces(grad_y_seq)
    if len(parts) == 1:
        return formulas.backward(d, grad_y_seq, grad_v, saved, v, decay, threshold, return_v)
    grad_x_seq = torch.empty_like(grad_y_seq, memory_format=torch.contiguous_format)
    none = grad_x_seq.new_empty(0, dtype=formulas.compute_dtype(grad_x_seq.dtype))
    grad_v0 = none.new_empty(grad_y_seq.shape[1]) if return_v else none
    learned: list[list[Tensor]] = []
    for piece in parts:
        grad_x_seq[:, piece], part_v, *rest = formulas.backward(
            d, grad_y_seq[:, piece], cut(grad_v, piece), saved[:, piece], cut(v, piece), decay, threshold, return_v
        )
        if return_v:
            grad_v0[piece] = part_v
        learned.append(rest)
    sums = [torch.stack(s).sum(0, dtype=torch.float64).to(none.dtype) for s in zip(*learned, strict=True)]
    return grad_x_seq, grad_v0, *sums
