"""The implementation that runs a neuron: CuPy kernels on CUDA, compiled formulas, or eager formulas.

`auto` takes the first that passes a small test call: cupy, compile, torch on CUDA; compile, torch elsewhere. The
choice, and why the others failed, is logged once per device. A backend given by name works or raises.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from registry import UserError

from . import compiled, eager, formulas
from .dynamics import Dynamics

log = logging.getLogger(__name__)

BACKENDS = ("auto", "cupy", "compile", "torch")
# On a CPU, `auto` runs tensors of fewer elements eagerly: compiling takes longer than it saves.
SMALL = 1 << 12


class Backend(NamedTuple):
    """`forward` and `backward` with the signatures of `formulas`."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


TORCH = Backend("torch", eager.forward, eager.backward)


def check_backend(name: str) -> None:
    if name not in BACKENDS:
        raise UserError(f"unknown backend {name!r}. Known: {list(BACKENDS)}")


def load(name: str, device_type: str) -> Backend:
    """The backend of that name. ImportError or RuntimeError, with the reason, where it is not available."""
    if name == "torch":
        return TORCH
    if name == "compile":
        return Backend("compile", compiled.forward, compiled.backward)
    if device_type != "cuda":
        raise RuntimeError(f"it needs a CUDA tensor, this one is on {device_type}")
    from . import cupy_kernels

    return Backend("cupy", cupy_kernels.forward, cupy_kernels.backward, TORCH.dtypes[:3])


@functools.cache
def tried(name: str, device: torch.device) -> Backend | str:
    """The backend, if a small test call on that device equals the formulas; else the reason why not."""
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
    except Exception as error:  # toolchains raise anything; the reason is logged and the next backend tried
        return reason(error)


def reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


@functools.cache
def automatic(device: torch.device) -> Backend:
    refused: list[tuple[str, str]] = []
    for name in ("cupy", "compile", "torch") if device.type == "cuda" else ("compile", "torch"):
        found = tried(name, device)
        if isinstance(found, Backend):
            why = "".join(f"; not {other}: {text}" for other, text in refused)
            log.info("neurons on %s: backend %s%s", device, found.name, why)
            return found if found is TORCH else or_eager(found)
        refused.append((name, found))
    raise AssertionError("the torch backend always works")


def or_eager(backend: Backend) -> Backend:
    """The backend, replaced by the eager formulas for dynamics on which it has failed once."""
    failed: set[Dynamics] = set()

    def guarded(fast: Callable[..., Any], slow: Callable[..., Any]) -> Callable[..., Any]:
        def run(d: Dynamics, *arguments: Any) -> Any:
            if d.form not in failed:
                try:
                    return fast(d, *arguments)
                except torch.OutOfMemoryError:
                    raise
                except Exception as error:
                    failed.add(d.form)
                    log.warning("neurons: backend torch in place of %s for %s: %s", backend.name, d, reason(error))
            return slow(d, *arguments)

        return run

    forward, backward = guarded(backend.forward, TORCH.forward), guarded(backend.backward, TORCH.backward)
    return Backend(backend.name, forward, backward, backend.dtypes)


def choose(name: str, x_seq: Tensor) -> Backend:
    """The backend for this tensor. RuntimeError, with the reason, where the one given by name cannot run."""
    if name == "torch":
        return TORCH
    if name != "auto":
        found = tried(name, x_seq.device)
        if isinstance(found, Backend) and x_seq.dtype not in found.dtypes:
            found = f"it has no kernels for {x_seq.dtype}"
        if isinstance(found, str):
            raise RuntimeError(f"neurons with backend={name!r} cannot run on {x_seq.device}: {found}")
        return found
    if x_seq.device.type == "cpu" and x_seq.numel() < SMALL:
        return TORCH
    found = automatic(x_seq.device)
    return found if x_seq.dtype in found.dtypes else TORCH
