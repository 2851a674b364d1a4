"""Benchmark a detector: time of a training step and of inference, relative to its convolutions alone.

    python -m tools.benchmark detector spikeyolo_s --T 1 --batch 2 --size 320,320
    python -m tools.benchmark detector runs/demo/checkpoint_best.pt
    python -m tools.benchmark detector configs/demo.yaml model.neuron=relu
    python -m tools.benchmark detector configs/coco/spikeyolo_s.yaml --classes 80 --channels 3   without its dataset
    python -m tools.benchmark detector eas_snn_s --T 3 --size 256,256          and the share of its learned sampler

CPU seconds of the process (the least of `--repeats`), on one thread unless told otherwise, and its peak memory. The
input is random: of a name 320x320, of a checkpoint or config `data.size`, unless `--size` is given. The convolutions
are timed one by one in the same run, forward and backward, on random inputs of the same sizes. A model with a learned
sampler gets one window of 4 micro-bins; the sampler is timed alone in the same run.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from data.type_checks import height_width
from engine.build import build_dataset, build_model
from engine.config import load_config
from engine.runs.open import open_run
from models import Detector, create_model, model_defaults
from models.contracts import MakesFrames
from models.deploy.fuse import fuse
from models.layers.spike_conv import SpikeConv
from models.layers.watch import watch
from registry import UserError


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

    def keep(conv: nn.Module, x: Tensor, y: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        found.append((conv, torch.rand_like(x)))

    with torch.no_grad(), watch([m for m in model.modules() if isinstance(m, nn.Conv2d)], keep):
        model.raw(x)
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


def open_model(args: argparse.Namespace) -> tuple[Detector, int, tuple[int, int] | None]:
    """(detector, channels of its input, (height, width) if something names it) of a checkpoint, config or name."""
    path = Path(args.model)
    is_config, is_checkpoint = path.suffix in (".yaml", ".yml"), path.suffix == ".pt" or path.is_dir()
    given = {"--T": args.T if is_config or is_checkpoint else None}
    given |= {"--classes": args.classes, "--channels": args.channels} if is_checkpoint else {}
    given |= {} if is_config else {text: text for text in args.overrides}
    for what in (what for what, value in given.items() if value is not None):
        remedy = "the checkpoint decides that" if is_checkpoint else "set model.T" if is_config else "for configs only"
        raise UserError(f"{what}: {remedy}")
    if is_checkpoint:
        run = open_run(path)
        model, size = run.model, run.config["data"]["size"]
        channels = run.content["model_kwargs"].get("in_channels", 3)
    elif is_config:
        cfg = load_config(path, args.overrides)
        classes, channels, size = args.classes, args.channels, cfg.data.size
        if classes is None or channels is None:
            try:
                dataset = build_dataset(cfg, cfg.data.train_split)
            except ValueError as error:
                raise UserError(f"{error}. Or give --classes and --channels, which the dataset would tell") from error
            classes, channels = classes or len(dataset.class_names), channels or dataset.channels
            size = size or getattr(dataset, "size", None)
        model, _ = build_model(cfg, classes, channels)
    else:
        classes, size = args.classes, None
        chosen = {"num_classes": classes, "T": args.T or 1, "in_channels": args.channels}
        model = create_model(args.model, **{key: value for key, value in chosen.items() if value is not None})
        channels = args.channels or model_defaults(args.model)["in_channels"]
    return model, channels, None if size is None else height_width(size)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark detector")
    parser.add_argument("model", help="a model's name, a checkpoint, or a config file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of a config")
    parser.add_argument("--T", type=int, help="of a model's name; default 1. Of a config: model.T=2")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", help="height,width; default: data.size, else 320,320")
    parser.add_argument("--classes", type=int, help="default: those of the config's dataset, else the model's own")
    parser.add_argument("--channels", type=int, help="of the input; default: those of the config's dataset, else 3")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=4)
    args = parser.parse_intermixed_args(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    try:
        model, channels, size = open_model(args)
    except UserError as error:
        sys.exit(f"error: {error}")
    height, width = height_width([int(n) for n in args.size.split(",")]) if args.size else size or (320, 320)
    shape = (args.batch, channels, height, width)
    samples = isinstance(model.encoder, MakesFrames)
    if samples:
        x = torch.poisson(torch.full((args.batch, 1, 4, *shape[1:]), 0.1))  # 0.4 events per pixel
    else:
        x = torch.rand(shape if channels == 3 else (model.T, *shape))
    model.train()
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.6, 0.9], [0.5, 0.1, 0.6, 0.2]])
    boxes = boxes * torch.tensor([width, height] * 2)
    targets = [{"boxes": boxes, "labels": torch.zeros(3, dtype=torch.int64)}] * args.batch

    def step() -> None:
        model.zero_grad()
        sum(model(x, targets).values()).backward()  # type: ignore[union-attr]

    def sampled() -> None:
        y = model.encode(x)
        if y.requires_grad:
            y.backward(torch.ones_like(y))

    print(f"{args.model} T={model.T}, {' x '.join(map(str, shape))}, {args.threads} thread(s), CPU seconds")
    training, peak = cpu_seconds(step, args.repeats), peak_gib()
    found = convolution_inputs(model, x)
    forward, both = convolution_seconds(found, args.repeats)
    times = f"{training / both:5.2f} x its convolutions ({both:.3f})"
    print(f"training step           {training:8.3f}   {times}, peak {peak:.2f} GiB")
    if samples:
        seconds = cpu_seconds(sampled, 2 * args.repeats)
        print(f"  of it the sampler     {seconds:8.3f}   {seconds / training:6.1%}")
    model.eval()
    with torch.no_grad():
        plain = cpu_seconds(lambda: model.raw(x), args.repeats)
        print(f"inference               {plain:8.3f}   {plain / forward:5.2f} x its convolutions ({forward:.3f})")
        if samples:
            seconds = cpu_seconds(sampled, 2 * args.repeats)
            print(f"  of it the sampler     {seconds:8.3f}   {seconds / plain:6.1%}")
        if not any(isinstance(m, SpikeConv) for m in model.modules()):
            return
        for form in ("dense", "separable", "fastest"):
            fused = fuse(model, form, x if form == "fastest" else None)
            seconds = cpu_seconds(lambda fused=fused: fused.raw(x), args.repeats)  # type: ignore[misc]
            print(f"inference, {form:<12} {seconds:8.3f}   {seconds / forward:5.2f} x the unfused convolutions")
