"""One process or many: started by torchrun, every rank runs the same script, rank 0 writes."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


def start(device: str) -> torch.device:
    """Join the process group if torchrun started us, and pick this rank's device ("auto": CUDA where there is one)."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and device.startswith("cuda:"):
        raise ValueError(f"device={device} would put every process on one GPU: use device=cuda with torchrun")
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device = {device!r} is none that torch knows: give auto, cpu or cuda") from error
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device={device}, but torch sees no CUDA device; use device=cpu")
        if chosen.index is not None and chosen.index >= (count := torch.cuda.device_count()):
            raise ValueError(f"device={device}, but torch sees {count} CUDA devices: give cuda:0 to cuda:{count - 1}")
        torch.cuda.set_device(chosen)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        # Rank 0 may read or make a large dataset while the others wait.
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timedelta(hours=2))
    return chosen


def stop() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    return rank() == 0


def barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def gather(value: Any) -> list[Any]:
    """The plain values of all ranks, on every rank."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def require_same(what: str, value: Any) -> None:
    """ValueError on every rank where ranks do not agree on the plain `value`."""
    values = gather(value)
    if any(other != values[0] for other in values):
        raise ValueError(
            f"the processes see different values of {what}: {values}. Do their machines share the folders?"
        )


def broadcast(value: Any) -> Any:
    """Rank 0's plain value, on every rank."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def broadcast_buffers(module: nn.Module) -> None:
    """Rank 0's buffers (BatchNorm statistics differ between ranks), so that all ranks evaluate one model."""
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)
