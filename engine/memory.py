"""Peak memory of training, for the log."""

from __future__ import annotations

import resource
import sys

import torch

GIB = 2**30


def peak_gib(device: torch.device) -> float:
    """Largest memory since the last call, in GiB: of tensors on a CUDA device; elsewhere the largest resident memory
    of the process since its start, which the system does not reset."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return round(peak / GIB, 3)
