"""Distributed runs under torchrun: process group, device of each rank, gather, broadcast, lost processes."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn, cast

import torch
import torch.distributed as dist
from torch import nn

from registry import UserError

# Rank 0 may read or generate a large dataset while the others wait at a barrier.
PREPARATION = timedelta(hours=2)
_preparing: dist.ProcessGroup | None = None  # the group of barriers
_lost = False  # communication has failed: the process group can neither be used nor destroyed


def start(device: str, timeout_minutes: float = 10.0) -> torch.device:
    """Join the process group if torchrun started us, and pick this rank's device ("auto": CUDA where there is one).

    timeout_minutes: after which a process that does not respond counts as lost; barriers wait for `PREPARATION`.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and device.startswith("cuda:"):
        raise UserError(f"device={device} would put every process on one GPU: use device=cuda with torchrun")
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device = {device!r}: not a device of torch; give auto, cpu or cuda") from error
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device={device}, but torch sees no CUDA device; use device=cpu")
        if chosen.index is not None and chosen.index >= (count := torch.cuda.device_count()):
            raise UserError(f"device={device}, but torch sees {count} CUDA devices: give cuda:0 to cuda:{count - 1}")
        torch.cuda.set_device(chosen)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        global _preparing
        end_with_parent()
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        limit = timedelta(minutes=timeout_minutes)
        store, rank, ranks = next(dist.rendezvous("env://", timeout=limit))
        # torchrun keeps its store when it restarts workers: without a prefix they find addresses of those that died.
        start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"start {start} of {ranks}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=limit)
        _preparing = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=PREPARATION))
    return chosen


def stop() -> None:
    global _preparing
    if dist.is_initialized() and not _lost:
        dist.destroy_process_group()
        _preparing = None


def end(message: str) -> NoReturn:
    """End this process with status 1 and `message` on stderr.

    After another process was lost, by os._exit: the process group's destructors would wait for it or abort (SIGABRT).
    """
    if not _lost:
        sys.exit(message)
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    os._exit(1)


def end_with_parent(seconds: float = 1.0) -> None:
    """End this process when its parent, torchrun, has ended. After a SIGKILL of torchrun nothing else does."""
    parent = os.getppid()
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        print("torchrun has ended, and so does this process of the training", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)  # a process blocked in a collective does not handle the signal
        os._exit(1)

    threading.Thread(target=watch, name="end with torchrun", daemon=True).start()


@contextmanager
def naming_lost_processes(remedy: str = "continue with --resume") -> Iterator[None]:
    """Raise ConnectionError with reason and remedy if communication with other processes fails."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not dist.is_initialized() or not (isinstance(error, dist.DistError) or re.search("gloo|nccl", text, re.I)):
            raise
        global _lost
        _lost = True
        raise ConnectionError(
            f"process {rank()} of {world_size()}: another process has ended, or has not answered within "
            f"timeout_minutes ({text.splitlines()[0]}). Its own message says why; {remedy}"
        ) from error


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    return rank() == 0


def barrier() -> None:
    """Wait for all ranks, for up to `PREPARATION`."""
    if dist.is_initialized():
        dist.barrier(_preparing)


def gather(value: Any) -> list[Any]:
    """The plain values of all ranks, on every rank."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def add_up(numbers: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all ranks, written into it."""
    if dist.is_initialized():
        dist.all_reduce(numbers)
    return numbers


def gather_to_main(value: Any) -> list[Any]:
    """The plain values and CPU tensors of all ranks on rank 0, [] on the others; for values that are large."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(value, values, group=_preparing)
    return values or []


def largest(values: list[int]) -> list[int]:
    """The largest of each of these numbers over all ranks, on every rank, without a device."""
    if not dist.is_initialized():
        return values
    numbers = torch.tensor(values)
    dist.all_reduce(numbers, dist.ReduceOp.MAX, group=_preparing)
    return numbers.tolist()


def require_same(what: str, value: Any) -> None:
    """UserError on every rank if the ranks have different plain values."""
    values = gather(value)
    if any(other != values[0] for other in values):
        raise UserError(f"the processes see different values of {what}: {values}. Do their machines share the folders?")


def broadcast(value: Any) -> Any:
    """Rank 0's plain value, on every rank."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def broadcast_buffers(module: nn.Module) -> None:
    """Copy rank 0's buffers to all ranks, so that all evaluate the same model: BatchNorm statistics differ by rank."""
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def broadcast_parameters(module: nn.Module) -> None:
    """Copy rank 0's parameters to all ranks."""
    if dist.is_initialized():
        for parameter in module.parameters():
            dist.broadcast(parameter.data, 0)
