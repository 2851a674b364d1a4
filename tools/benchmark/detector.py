"""A detector's training step and inference beside the time its convolutions alone would take.

    python -m tools.benchmark detector spikeyolo_s --T 1 --batch 2 --size 320,320

CPU seconds of the process (the least of `--repeats`), on one thread unless told otherwise, and its peak memory. The
convolutions are timed one by one in the same run, forward and backward, on inputs of the sizes they meet.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from models import Detector, create_model
from models.merge import merge
from models.spike_conv import SpikeConv


def cpu_seconds(call: Callable[[], object], repeats: int) -> float:
    call()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return min(taken)


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def convolution_inputs(model: Detector, x: Tensor) -> list[tuple[nn.Conv2d, Tensor]]:
    """Every convolution with a random input like the one it gets."""
    found: list[tuple[nn.Conv2d, Tensor]] = []
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    hooks = [m.register_forward_pre_hook(lambda m, args: found.append((m, torch.rand_like(args[0])))) for m in convs]
    with torch.no_grad():
        model.raw(x)
    for hook in hooks:
        hook.remove()
    return found


def convolution_seconds(found: list[tuple[nn.Conv2d, Tensor]], repeats: int) -> tuple[float, float]:
    """Of all forward passes, and of all forward and backward passes; the first layer needs no gradient of its input."""
    forward = both = 0.0
    for i, (conv, x) in enumerate(found):
        x.requires_grad_(i > 0)
        grad = torch.ones_like(conv(x))
        with torch.no_grad():
            forward += cpu_seconds(lambda conv=conv, x=x: conv(x), repeats)  # type: ignore[misc]
        both += cpu_seconds(lambda conv=conv, x=x, grad=grad: conv(x).backward(grad), repeats)  # type: ignore[misc]
    return forward, both


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark detector")
    parser.add_argument("model")
    parser.add_argument("--T", type=int, default=1)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", default="320,320", help="height,width")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=4)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    height, width = (int(n) for n in args.size.split(","))
    model, x = create_model(args.model, T=args.T).train(), torch.rand(args.batch, 3, height, width)
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.6, 0.9], [0.5, 0.1, 0.6, 0.2]])
    boxes = boxes * torch.tensor([width, height] * 2)
    targets = [{"boxes": boxes, "labels": torch.zeros(3, dtype=torch.int64)}] * args.batch

    def step() -> None:
        model.zero_grad()
        sum(model(x, targets).values()).backward()  # type: ignore[union-attr]

    print(f"{args.model} T={args.T}, {args.batch} x 3 x {height} x {width}, {args.threads} thread(s), CPU seconds")
    training, peak = cpu_seconds(step, args.repeats), peak_gib()
    found = convolution_inputs(model, x)
    forward, both = convolution_seconds(found, args.repeats)
    times = f"{training / both:5.2f} x its convolutions ({both:.3f})"
    print(f"training step           {training:8.3f}   {times}, peak {peak:.2f} GiB")
    model.eval()
    with torch.no_grad():
        plain = cpu_seconds(lambda: model.raw(x), args.repeats)
        print(f"inference               {plain:8.3f}   {plain / forward:5.2f} x its convolutions ({forward:.3f})")
        if not any(isinstance(m, SpikeConv) for m in model.modules()):
            return
        for form in ("dense", "separable", "fastest"):
            merged = merge(model, form, x if form == "fastest" else None)
            seconds = cpu_seconds(lambda merged=merged: merged.raw(x), args.repeats)  # type: ignore[misc]
            print(f"inference, {form:<12} {seconds:8.3f}   {seconds / forward:5.2f} x the unmerged convolutions")
