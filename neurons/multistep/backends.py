"""Which implementation runs a neuron: CuPy kernels on CUDA, compiled formulas, or the formulas as they are.

`auto` takes the first that works on one tiny call: cupy, compile, torch on CUDA; compile, torch elsewhere. What was
chosen and why the others were not is logged once per device type. A backend asked for by name works or raises.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import compiled, eager, formulas
from .dynamics import Dynamics

log = logging.getLogger(__name__)

BACKENDS = ("auto", "cupy", "compile", "torch")
# On a CPU, `auto` runs tensors of fewer elements eagerly: they would not repay a compilation.
SMALL = 1 << 15


class Backend(NamedTuple):
    """`forward` and `backward` with the signatures of `formulas`."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]


TORCH = Backend("torch", eager.forward, eager.backward)


def check_backend(name: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}. Known: {list(BACKENDS)}")


def load(name: str, device_type: str) -> Backend:
    """The backend of that name; an ImportError or RuntimeError that says why where it cannot be had."""
    if name == "torch":
        return TORCH
    if name == "compile":
        return Backend("compile", compiled.forward, compiled.backward)
    if device_type != "cuda":
        raise RuntimeError(f"it needs a CUDA tensor, this one is on {device_type}")
    from . import cupy_kernels

    return Backend("cupy", cupy_kernels.forward, cupy_kernels.backward)


@functools.lru_cache(maxsize=None)
def tried(name: str, device: torch.device) -> Backend | str:
    """The backend if it gives the formulas' results on one tiny call on that device, else why not."""
    try:
        backend = load(name, device.type)
        x = torch.tensor([[0.2, 0.6, 1.2, -1.0]] * 2, device=device)
        d = Dynamics("binary", tau=2.0, v_reset=0.0, surrogate="rectangle", detach_reset=True)
        y, packed, _ = backend.forward(d, x, None, None, None, True, False)
        gx = backend.backward(d, x, None, packed, None, None, None, False)[0]
        y0, packed0, _ = formulas.forward(d, x, None, None, None, True, False)
        gx0 = formulas.backward(d, x, None, packed0, None, None, None, False)[0]
        if not (torch.equal(y, y0) and torch.equal(packed, packed0) and torch.allclose(gx, gx0)):
            return "its results on a test call are wrong"
        return backend
    except Exception as error:  # whatever a toolchain may raise: the reason is reported, the next backend is tried
        return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


@functools.lru_cache(maxsize=None)
def automatic(device: torch.device) -> Backend:
    refused = []
    for name in ("cupy", "compile", "torch") if device.type == "cuda" else ("compile", "torch"):
        found = tried(name, device)
        if isinstance(found, Backend):
            why = "".join(f"; {other}: {reason}" for other, reason in refused)
            log.info("neurons on %s: backend %s%s", device, found.name, why)
            return found
        refused.append((name, found))
    raise RuntimeError(f"no backend works on {device}: {refused}")


def choose(name: str, x_seq: Tensor) -> Backend:
    """The backend for this tensor."""
    if name == "torch":
        return TORCH
    if name != "auto":
        found = tried(name, x_seq.device)
        if isinstance(found, str):
            raise RuntimeError(f"neurons with backend={name!r} cannot run on {x_seq.device}: {found}")
        return found
    if x_seq.device.type == "cpu" and x_seq.numel() < SMALL:
        return TORCH
    return automatic(x_seq.device)
