"""A detector as an ONNX model: boxes and scores, or logits, of a batch of inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from torch import Tensor, nn

from neurons.base import MultiStepNeuron
from registry import UserError

from ...contracts import GivesCandidates
from ...detector import Detector
from ...layers.watch import watch
from ..plain import plain_copy
from .trace import record
from .write import KNOWN, write


def to_onnx(
    model: Detector, example: Tensor, raw: bool = False, batch: int | None = None
) -> tuple[onnx.ModelProto, list[str]]:
    """The ONNX model of a detector in evaluation mode, and the names of its neurons, in the order in which they run.

    Input `x`: a batch as `Detector.encode` takes it, of the size of `example` and any number of images (`batch`: of
    that number). Outputs `boxes` [B, M, 4] xyxy in pixels of x and `scores` [B, M, K], before thresholds and NMS; with
    `raw` the logits, `logits_0`, `logits_1`, ..., finest first. Within the file the input of each neuron is named
    LAYER/input and its output LAYER/spikes, so that a reader can add them to the outputs.

    T is unrolled; neurons are written by their equations, FFTs as products with matrices, RepConv and BatchNorm as one
    convolution. UserError naming the operator for which there is no plain form.
    """
    model = plain_copy(model)
    head = model.head
    if not raw and not isinstance(head, GivesCandidates):
        raise UserError(f"{type(head).__name__} has no `candidates`, boxes and scores of all cells: export with --raw")
    seen: dict[nn.Module, tuple[Any, Any]] = {}

    def keep(layer: nn.Module, ins: Tensor, out: Tensor) -> None:
        seen.setdefault(layer, (ins, out))

    def forward(x: Tensor) -> Any:
        seen.clear()
        with watch(neurons, keep):
            logits = model.logits(model.encode(x))
        shown = dict(zip(("boxes", "scores"), () if raw else head.candidates(logits), strict=False))  # type: ignore[attr-defined]
        shown |= {f"logits_{i}": level for i, level in enumerate(logits)}
        for layer, (ins, out) in seen.items():
            shown |= {f"{neurons[layer]}/input": ins, f"{neurons[layer]}/spikes": out}
        return shown

    neurons: dict[nn.Module, str] = {m: name for name, m in model.named_modules() if isinstance(m, MultiStepNeuron)}
    recorded = record(forward, _of(example), KNOWN, batch)
    (end,) = (node for node in recorded.graph.nodes if node.op == "output")
    results = end.meta["args"][0]
    outputs = [key for key in results if (key.startswith("logits_") if raw else key in ("boxes", "scores"))]
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    source = "x", 1 if example.dim() == 5 else 0
    return write(recorded, weights, source, results, outputs), [neurons[layer] for layer in seen]


def _of(example: Tensor) -> Callable[[int], Tensor]:
    """A function of n: n images like those of `example`, a batch of a dataset."""
    axis = 1 if example.dim() == 5 else 0

    def images(count: int) -> Tensor:
        return example.narrow(axis, 0, 1).repeat_interleave(count, axis).contiguous()

    return images
