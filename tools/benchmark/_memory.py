"""Peak memory of a piece of work, on a GPU from torch's allocator, on Linux from the process."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Of distinct memory."""
    return sum({s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in tensors)}.values())


def peak_growth(work: Callable[[], object], device: torch.device) -> int | None:
    """Bytes by which memory in use grows above what it is before `work()`; None where the system does not tell.

    On a CPU it is that of the process, what the allocator wastes between tensors included; memory freed before is
    given back to the system first.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    try:
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text("5")  # the peak starts again (proc(5))
    except (OSError, AttributeError):
        return None
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024
