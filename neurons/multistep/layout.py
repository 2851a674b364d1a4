"""Multi-step tensors of any dense memory format as [T, M], and back, without a copy."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def is_dense(x: Tensor) -> bool:
    """Whether x fills its memory without gaps or overlap, in any order of the axes."""
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(x.stride(), x.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def with_dense_steps(x_seq: Tensor) -> Tensor:
    """x_seq where each step is dense (contiguous, channels_last, expanded over T, ...), else a contiguous copy."""
    return x_seq if x_seq.is_contiguous() or is_dense(x_seq[0]) else x_seq.contiguous()


def laid_out_like(x_seq: Tensor, like: Tensor) -> Tensor:
    """x_seq [n, ...] with the step strides of `like` [m, ...]: itself if it has them, else a copy."""
    if x_seq.numel() == 0 or x_seq.stride()[1:] == like.stride()[1:]:
        return x_seq
    return empty_steps(like, x_seq.shape[0], x_seq.dtype).copy_(x_seq)


def flat(x_seq: Tensor) -> Tensor:
    """[T, ...] with dense steps -> [T, M] in the order of memory: a view."""
    M = math.prod(x_seq.shape[1:])
    return x_seq.as_strided((x_seq.shape[0], M), (x_seq.stride(0) if x_seq.shape[0] > 1 else M, 1))


def unflat(x: Tensor, like: Tensor) -> Tensor:
    """[n, M], contiguous -> [n, ...] whose steps have the shape and the strides of those of `like`: a view."""
    return x.as_strided((x.shape[0], *like.shape[1:]), (x.stride(0), *like.stride()[1:]))


def empty_steps(like: Tensor, steps: int, dtype: torch.dtype) -> Tensor:
    """Uninitialised [steps, ...], one step after the other, each with the shape and strides of those of `like`."""
    shape, strides = like.shape[1:], like.stride()[1:]
    return torch.empty_strided((steps, *shape), (math.prod(shape), *strides), dtype=dtype, device=like.device)
