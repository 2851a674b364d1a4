"""Run a training step again that was not finite, from the file that the training wrote about it.

    python -m tools.replay runs/mine/nonfinite_rank0.pt                      as it was, on this machine's CPU
    python -m tools.replay runs/mine/nonfinite_rank0.pt --precision fp32     in another precision
    python -m tools.replay runs/mine/nonfinite_rank0.pt --device cuda

Prints each batch (images, range of the input, boxes), the largest output of the layers up to the first that is not
finite, the losses, and where the first value is that is not finite. BatchNorm has the statistics of these batches
alone, and losses of a teacher (train.distill) are left out. The file holds tensors and plain values:
torch.load(FILE, weights_only=True).
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data.sample import Batch, Placement
from engine.command import run_command
from engine.loop import run_batches
from engine.nonfinite import first_not_finite
from engine.precision import PRECISIONS
from models import create_model
from models.checkpoints.file import read_checked
from neurons import StatefulNeuron, Stream
from registry import UserError

LAST = 8  # layers shown before the first that is not finite


def main(argv: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(
        prog="python -m tools.replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="nonfinite_rank<r>.pt of a run folder")
    parser.add_argument("--precision", choices=list(PRECISIONS), help="default: that of the run")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    content = read_checked(args.file)
    if not isinstance(content, dict) or "batches" not in content:
        raise UserError(f"{args.file}: not a step that a training wrote as nonfinite_rank<r>.pt")
    return replay(content, args.precision or content["precision"], torch.device(args.device))


def replay(content: dict[str, Any], precision: str, device: torch.device) -> str:
    """Run the step, print what is found, and return where the first value is that is not finite, "" without one."""
    model = create_model(**content["model_kwargs"])
    model.load_state_dict(content["model"])
    model.to(device).train()
    group = [_batch(plain) for plain in content["batches"]]
    for i, batch in enumerate(group):
        boxes = sum(len(target["boxes"]) for target in batch.targets if target)
        x = batch.x.float() * batch.scale
        print(f"batch {i + 1}: images {batch.image_ids}, input {x.min():.3g} to {x.max():.3g}, {boxes} boxes")
    carried = content["carried"]
    peaks: list[tuple[str, float]] = []
    hooks = [m.register_forward_hook(_peak(peaks, f"{k} ({type(m).__name__})")) for k, m in model.named_modules() if k]
    with Stream(model, detach=content["bptt"] == 1) if carried else nullcontext() as stream:
        if stream is not None:
            _restore(model, carried, group[0], device)
        torch.set_rng_state(content["generator"])
        losses: dict[str, Any] = {}

        def step(model: nn.Module, group: list[Batch]) -> None:
            ran = {"bptt": content["bptt"], "precision": precision, "size": content["size"]}
            summed, _ = run_batches(model, group, device=device, stream=stream, **ran)
            losses.update(summed)

        found = first_not_finite(model, group, step)
    for hook in hooks:
        hook.remove()
    bad = next((i for i, (_, peak) in enumerate(peaks) if not peak < float("inf")), len(peaks) - 1)
    print("largest absolute output of layers:")
    for name, peak in peaks[max(0, bad + 1 - LAST) : bad + 1]:
        print(f"  {peak:<10.4g} {name}")
    print("losses: " + ", ".join(f"{key} {float(value):.6g}" for key, value in losses.items()))
    print(f"in the training: {content['where']}")
    print(f"now ({precision}, {device}): {found.where or 'all values are finite'}")
    return found.where


def _batch(plain: dict[str, Any]) -> Batch:
    return Batch(**plain, placements=[Placement()] * len(plain["image_ids"]))


def _restore(model: nn.Module, carried: dict[str, Any], batch: Batch, device: torch.device) -> None:
    """Carried states, after a call that tells the neurons the shape of their inputs and changes nothing else."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    x, targets = batch.to(device)
    model(x, targets)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    for name, module in model.named_modules():
        if isinstance(module, StatefulNeuron):
            module.carried = carried.get(name)


def _peak(peaks: list[tuple[str, float]], name: str):
    def ended(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.is_floating_point() and output.numel():
            peaks.append((name, float(output.detach().abs().max())))

    return ended


if __name__ == "__main__":
    run_command(main)
