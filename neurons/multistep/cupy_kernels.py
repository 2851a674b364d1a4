"""The dynamics as CUDA kernels through CuPy: one launch for all T forward, one backward (`step.cu`, `multistep.cu`).

A kernel is compiled per `Dynamics`, T, dtype and width of a load, and kept by CuPy on disk; constants that differ
between layers or epochs (thresholds, tau, widths of the surrogate) are arguments of one kernel. CuPy always compiles
with -ftz=true, so float32 values below 1.2e-38 count as 0.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .dynamics import Dynamics
from .formulas import bytes_for

IO = {torch.float32: "FP32", torch.float16: "FP16", torch.bfloat16: "BF16"}
LOAD = 16  # bytes per load of a thread
THREADS = 128  # per block; few, so that small tensors fill all multiprocessors
MAX_HELD = 64  # registers for H of T steps and VEC elements, where backward recomputes it from the input
# With learned parameters every block writes a partial sum: no more blocks than run at once.
BLOCKS_PER_MULTIPROCESSOR = 2048 // THREADS
MAX_BLOCKS = 2**31 - 1


def source() -> str:
    """CUDA C++ without headers, for NVRTC."""
    return "".join(Path(__file__).with_name(name).read_text() for name in ("step.cu", "multistep.cu"))


@functools.cache
def kernel(name: str, options: tuple[str, ...]) -> Callable[..., None]:
    """`forward` or `backward`, called with grid, block and arguments; compiled at its first call."""
    import cupy

    return cupy.RawKernel(source(), name, options=options, backend="nvrtc")


@functools.cache
def stream(pointer: int, device: int) -> Any:
    import cupy

    return cupy.cuda.ExternalStream(pointer, device)


@contextlib.contextmanager
def current(device: torch.device) -> Iterator[None]:
    """CuPy on PyTorch's current stream of the device. CuPy's own device context would leave device 0 current."""
    with torch.cuda.device(device), stream(torch.cuda.current_stream(device).cuda_stream, device.index):
        yield


def multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def numbers(d: Dynamics) -> tuple[np.float32, ...]:
    """NUMBERS of step.cu: computed in float64 and rounded once, as PyTorch does with Python numbers."""
    th, n = d.v_threshold, d.slopes
    found = (
        d.keep, d.gain, d.rest, th, d.v_reset or 0.0, d.v_init, d.negative, d.negative * th, n.window, n.alpha,
        d.levels, d.slope, d.levels / th, th / d.levels, 1 / th, n.bottom, n.top, n.floor,
    )  # fmt: skip
    return tuple(np.float32(number) for number in found)


def options(
    d: Dynamics, name: str, dtype: torch.dtype, T: int, vector: int, bits: int, has_v: bool, learned_decay: bool,
    learned_threshold: bool, return_v: bool, has_grad_v: bool = False,
) -> tuple[str, ...]:  # fmt: skip
    """The macros of the source. Options without effect on a kernel keep one value, so that they share a compilation."""
    spiking, backward = d.emit in ("binary", "ternary"), name == "backward"
    macros = {
        name.upper(): 1,
        "IO": IO[dtype],
        "STEPS": T,
        "VEC": vector,  # adjacent elements per thread
        "THREADS": THREADS,
        "BITS": bits,  # per element and step, written by forward and read by backward
        "EMIT": d.emit.upper(),
        "SURROGATE": d.surrogate.upper() if backward and spiking and not bits else "RECTANGLE",
        "SOFT": int(not spiking or d.v_reset is None),
        "DETACH": int(backward and d.detach_reset),
        "INCLUSIVE": int(spiking and d.inclusive),
        "HAS_REST": int(bool(d.v_reset)),
        "CARRIES_OUTPUT": int(d.carries_output),
        # th is a power of two, so h / th equals h * (1 / th) bit for bit
        "EXACT_INVERSE": int(d.emit == "integer" and not learned_threshold and np.frexp(d.v_threshold)[0] == 0.5),
        "LEARNED_DECAY": int(learned_decay),
        "LEARNED_THRESHOLD": int(learned_threshold),
        "DECAY_INPUT": int(learned_decay and d.decay_input),
        "START": "GIVEN" if has_v else "NUMBER" if d.v_init else "ZERO",
        "RETURN_V": int(return_v),
        "HAS_GRAD_V": int(has_grad_v),
    }
    return ("-std=c++17", "--fmad=false", *(f"-D{key}={value}" for key, value in macros.items()))


@functools.cache
def prepared(name: str, d: Dynamics, *chosen: Any) -> tuple[Callable[..., None], tuple[np.float32, ...]]:
    """(kernel, numbers) of a call with these `options`. Kept, since making the options takes as long as a launch."""
    return kernel(name, options(d, name, *chosen)), numbers(d)


def stride(x: Tensor) -> int:
    """Elements from one step of [T, M] to the next; 0 where there is no next."""
    return x.stride(0) if x.shape[0] > 1 else 0


def vector(M: int, most: int, *tensors: Tensor | None) -> int:
    """Adjacent elements per thread: `most`, or fewer where a tensor is not aligned to as many."""

    def fits(x: Tensor, n: int) -> bool:
        return x.data_ptr() % min(n * x.element_size(), LOAD) == 0 and (x.ndim < 2 or stride(x) % n == 0)

    while most > 1 and (M % most or not all(fits(x, most) for x in tensors if x is not None)):
        most //= 2
    return most


def blocks_for(M: int, vector: int, learned: bool, device: torch.device) -> int:
    blocks = -(-M // (THREADS * vector))
    return min(blocks, BLOCKS_PER_MULTIPROCESSOR * multiprocessors(device) if learned else MAX_BLOCKS)


def launch(
    name: str, d: Dynamics, chosen: tuple, blocks: int, device: torch.device, *arguments: Tensor | int | None
) -> None:
    """The kernel of these `options`. Tensors become pointers (None: a null pointer), ints int64; the numbers follow."""

    def raw(a: Tensor | int | None) -> np.generic:
        if isinstance(a, Tensor):
            return np.uint64(a.data_ptr())
        return np.uint64(0) if a is None else np.int64(a)

    if blocks:
        run, constants = prepared(name, d, *chosen)
        with current(device):
            run((blocks,), (THREADS,), (*map(raw, arguments), *constants))


def rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    """[n, M] or [M] as the kernels read it, last axis contiguous. A view if it is, as callers guarantee."""
    if x.dtype != dtype:
        raise TypeError(f"the CUDA kernels expected {dtype} here, got {x.dtype}")
    return x if x.shape[-1] <= 1 or x.stride(-1) == 1 else x.contiguous()


def scalar(x: Tensor | None, device: torch.device) -> Tensor | None:
    return None if x is None else x.detach().to(device, torch.float32)


def check(dtype: torch.dtype) -> None:
    if dtype not in IO:
        raise TypeError(f"the CUDA kernels take {', '.join(str(t) for t in IO)}, not {dtype}")


def forward(
    d: Dynamics, x_seq: Tensor, v: Tensor | None, decay: Tensor | None, threshold: Tensor | None, save: bool,
    return_v: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """As `formulas.forward`, for CUDA tensors; TypeError for a dtype other than fp32, fp16 and bf16."""
    dtype, device = x_seq.dtype, x_seq.device
    check(dtype)
    (T, M), x_seq = x_seq.shape, rows(x_seq, dtype)
    v = None if v is None or d.memoryless else rows(v, torch.float32)
    decay, threshold = scalar(decay, device), scalar(threshold, device)
    bits = d.bits(decay is not None, threshold is not None) if save else 0
    return_v = return_v and not d.memoryless
    y_seq = x_seq.new_empty((T, M))
    packed = x_seq.new_empty((bytes_for(T, bits), M), dtype=torch.uint8)
    v_last = x_seq.new_empty(M if return_v else 0, dtype=torch.float32)
    n = vector(M, LOAD // dtype.itemsize, x_seq, v)
    chosen = (dtype, T, n, bits, v is not None, decay is not None, threshold is not None, return_v)
    launch(
        "forward", d, chosen, blocks_for(M, n, False, device), device,
        x_seq, stride(x_seq) // n, v, decay, threshold, y_seq, packed, v_last, M // n,
    )  # fmt: skip
    return y_seq, packed, v_last


def backward(
    d: Dynamics, grad_y_seq: Tensor, grad_v: Tensor | None, saved: Tensor, v: Tensor | None, decay: Tensor | None,
    threshold: Tensor | None, return_v: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """As `formulas.backward`, for CUDA tensors; TypeError for a dtype other than fp32, fp16 and bf16."""
    dtype, device = grad_y_seq.dtype, grad_y_seq.device
    check(dtype)
    (T, M), grad_y_seq = grad_y_seq.shape, rows(grad_y_seq, dtype)
    decay, threshold = scalar(decay, device), scalar(threshold, device)
    bits = d.bits(decay is not None, threshold is not None)
    saved = rows(saved, torch.uint8 if bits else dtype)
    # Packed bits already hold what backward needs of the initial membrane.
    v = None if v is None or d.memoryless or bits else rows(v, torch.float32)
    grad_v = None if grad_v is None or d.memoryless else rows(grad_v, torch.float32)
    return_v = return_v and not d.memoryless
    learned = decay is not None or threshold is not None
    most = LOAD // dtype.itemsize
    while not bits and most > 1 and most * T > MAX_HELD:
        most //= 2
    n = vector(M, most, grad_y_seq, grad_v, saved, v)
    blocks = blocks_for(M, n, learned, device)
    grad_x = grad_y_seq.new_empty((T, M))
    grad_v_first = grad_y_seq.new_empty(M if return_v else 0, dtype=torch.float32)
    sums = grad_y_seq.new_empty((2, blocks if learned else 0), dtype=torch.float64)
    given = (v is not None, decay is not None, threshold is not None, return_v, grad_v is not None)
    launch(
        "backward", d, (dtype, T, n, bits, *given), blocks, device,
        grad_y_seq, stride(grad_y_seq) // n, grad_v, saved, stride(saved) // n, v, decay, threshold,
        grad_x, grad_v_first, sums, M // n,
    )  # fmt: skip
    none = grad_x.new_empty(0, dtype=torch.float32)
    return (
        grad_x,
        grad_v_first,
        none if decay is None else sums[0].sum().float(),
        none.new_empty(0) if threshold is None else sums[1].sum().float(),
    )
