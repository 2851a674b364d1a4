"""Compare an ONNX model with its detector: the outputs, and where spikes differ by rounding, every layer by itself.

A spike depends on whether a membrane reaches its threshold. Where it comes closer than float32 rounds, two programs
that sum in another order may differ by a whole spike, and behind it by more than rounding. So if outputs differ, the
detector runs again with the spikes of the ONNX model in each layer: then only rounding within a layer is left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from registry import UserError

from ...contracts import GivesCandidates
from ...detector import Detector
from .session import Session

TOLERANCE = 1e-3  # of values, relative where they are above 1
SHARE = 1e-4  # of the outputs of a layer that may differ where its input is equal: membranes at the threshold
FEW = 10  # such outputs that may differ in any layer


@dataclasses.dataclass
class Agreement:
    """difference: the largest of an output, relative where outputs are above 1.
    spikes, differing: number of all outputs of spiking layers, and of those that differ; None: not looked at.
    given_spikes: the largest difference of a layer's input, and of the outputs, where all spikes are equal."""

    difference: float
    spikes: int | None = None
    differing: int | None = None
    given_spikes: float | None = None

    def text(self) -> str:
        if self.given_spikes is None:
            return f"outputs agree to {self.difference:.1e}"
        return (
            f"{self.differing} of {self.spikes:,} spikes differ, at membranes within rounding of a threshold, and then "
            f"outputs by up to {self.difference:.1e}. Given equal spikes, all layers agree to {self.given_spikes:.1e}"
        )


@torch.no_grad()
def check(model: onnx.ModelProto, detector: Detector, neurons: Sequence[str], x: Tensor) -> Agreement:
    """UserError naming the first layer that differs by more than rounding; x: a batch of a dataset."""
    raw = "boxes" not in [output.name for output in model.graph.output]
    found = Session(model)(x)
    difference = _difference(found, _outputs(detector, x, raw))
    if difference <= TOLERANCE:
        return Agreement(difference)
    names = [f"{name}/{value}" for name in neurons for value in ("input", "spikes")]
    present = {output for node in model.graph.node for output in node.output}
    inner = Session(model, [name for name in names if name in present])(x)
    layers = {name: detector.get_submodule(name) for name in neurons}
    free: dict[str, Any] = {}
    with _watched(layers, {}, free):
        _outputs(detector, x, raw)
    given: dict[str, Any] = {}
    spikes = {name: inner[f"{name}/spikes"] for name in neurons if f"{name}/spikes" in inner}
    with _watched(layers, spikes, given):
        want = _outputs(detector, x, raw)
    total = differing = 0
    largest = _difference(found, want)
    for name, (ins, out) in given.items():
        if name not in spikes:
            continue
        theirs = spikes[name].view(out.shape)
        if layers[name].spiking:
            total, differing = total + out.numel(), differing + int((theirs != free[name][1]).sum())
        if (own := inner.get(f"{name}/input")) is not None:
            here = _difference({"": own.view(ins.shape)}, {"": ins})
            largest = max(largest, here)
            if here > TOLERANCE:
                raise UserError(f"the input of {name} differs by {here:.1e} in onnxruntime: the export is wrong")
            wrong = int(((layers[name](own.view(ins.shape)) - theirs).abs() > TOLERANCE).sum())
            if wrong > max(FEW, SHARE * out.numel()):
                raise UserError(
                    f"{name}: {wrong} of its {out.numel()} outputs differ in onnxruntime, with equal input: the export "
                    "is wrong"
                )
    if largest > TOLERANCE:
        raise UserError(f"outputs differ by {largest:.1e} in onnxruntime, with equal spikes: the export is wrong")
    return Agreement(difference, total, differing, largest)


def _outputs(detector: Detector, x: Tensor, raw: bool) -> dict[str, Tensor]:
    logits = detector.logits(detector.encode(x))
    if raw:
        return {f"logits_{i}": level for i, level in enumerate(logits)}
    assert isinstance(detector.head, GivesCandidates)
    return dict(zip(("boxes", "scores"), detector.head.candidates(logits), strict=True))


def _difference(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """Infinite where something is not finite."""
    parts = [((found[key] - value).abs() / value.abs().clamp(min=1)).max() for key, value in wanted.items()]
    largest = float(torch.stack(parts).max())
    return largest if largest == largest else float("inf")


@contextmanager
def _watched(layers: Mapping[str, nn.Module], spikes: Mapping[str, Tensor], seen: dict[str, Any]) -> Iterator[None]:
    """Within: (input, output) of each layer go to `seen`, and `spikes` are given on in the place of outputs."""

    def hook(name: str) -> Any:
        def replace(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
            seen.setdefault(name, (args[0], out))
            return spikes[name].view(out.shape) if name in spikes else None

        return replace

    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
