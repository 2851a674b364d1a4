"""Joules: the energy per image that an NVIDIA GPU has used, measured by its own counter (NVML)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models import Detector
from registry import UserError

BATCHES = (1, 64)
SECONDS = 5.0  # of a measurement: the counter advances every 20 to 100 ms


def counter(device: torch.device) -> Callable[[], float]:
    """A function that gives the joules the GPU has used since its driver was loaded.

    UserError for a device that has no such counter, and where nvidia-ml-py is not installed.
    """
    if device.type != "cuda":
        raise UserError(
            f"device = {device}: joules are measured on an NVIDIA GPU; leave out --joules, or set device=cuda"
        )
    try:
        import pynvml
    except ImportError as error:
        raise UserError("--joules needs nvidia-ml-py: pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        raise UserError(f"device = {device}: its driver gives no energy ({error}); leave out --joules") from error
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


def joules_per_image(
    run: Callable[[], object],
    images: int,
    read: Callable[[], float],
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, float]:
    """{"joules_per_image", "images_per_second", "watts"} of calls of `run`, each for `images` images, which must have
    ended when it returns. A fifth of the time before is not measured, so that the GPU is warm."""
    start = clock()
    while clock() - start < seconds / 5:
        run()
    calls, used, start = 0, read(), clock()
    while (taken := clock() - start) < seconds or not calls:
        run()
        calls += 1
    joules = read() - used
    total = calls * images
    return {"joules_per_image": joules / total, "images_per_second": total / taken, "watts": joules / taken}


@torch.inference_mode()
def measure(model: Detector, x: Tensor, read: Callable[[], float]) -> dict[str, Any]:
    """Of the detector, without its data pipeline, on copies of the images of a batch x of its dataset.

    {"1": {...}, "64": {...}} by the size of the batch, of `joules_per_image`.
    """
    axis = 1 if x.dim() == 5 else 0
    found = {}
    for size in BATCHES:
        images = x.index_select(axis, torch.arange(size, device=x.device) % x.shape[axis])

        def run(images: Tensor = images) -> None:
            model(images)
            torch.cuda.synchronize(images.device)

        found[str(size)] = joules_per_image(run, size, read)
    return found
