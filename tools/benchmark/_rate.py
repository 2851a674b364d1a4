"""Multiplications per second: what a matrix product reaches on the device, and what a network needs per image."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from analysis.operations import LAYERS, multiply_accumulates
from models import Detector
from models.layers.watch import watch

SIDE = {"cpu": 1024, "cuda": 8192}


def matrix_rate(device: torch.device, dtype: torch.dtype, repeats: int = 10) -> float:
    """FLOP/s (2 per multiply-accumulate) of a square matrix product in `dtype`, the best of `repeats`. On a CPU per
    CPU second of all threads together."""
    n = SIDE[device.type]
    a, b = torch.randn(2, n, n, device=device, dtype=dtype)
    taken = []
    for _ in range(repeats + 2):  # two warm up
        if device.type == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            a @ b
            end.record()
            torch.cuda.synchronize(device)
            taken.append(start.elapsed_time(end) / 1e3)
        else:
            started = time.process_time()
            a @ b
            taken.append(time.process_time() - started)
    return 2 * n**3 / min(taken[2:])


def network_flops(model: Detector, x: Tensor) -> float:
    """FLOPs of the convolutions and linear layers of a forward pass per image, those of x, all T steps."""
    counted = 0

    def count(layer: nn.Module, x: Tensor, y: Tensor) -> None:
        nonlocal counted
        counted += 2 * multiply_accumulates(layer, x, y)

    training = model.training
    with torch.no_grad(), watch([m for m in model.modules() if isinstance(m, LAYERS)], count):
        x_TBCHW = model.eval().encode(x)
        model.logits(x_TBCHW.contiguous())  # a still image as T images: the count is that of the network as defined
    model.train(training)
    return counted / x_TBCHW.shape[1]
