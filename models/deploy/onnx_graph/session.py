"""Run exported files by onnxruntime, on the CPU: arrays in and out, or detections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from registry import UserError

from ...contracts import Head
from ...heads.boxes import select_detections


class Session:
    """x -> {name: output}, of a file or a model; with the values named `also` as outputs, too."""

    def __init__(self, model: str | Path | onnx.ModelProto, also: Sequence[str] = ()):
        if isinstance(model, str | Path) and also:
            model = onnx.load(str(model))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            source = str(model) if isinstance(model, str | Path) else _with_outputs(model, also).SerializeToString()
            self.session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no base class
            raise UserError(f"{model if isinstance(model, str | Path) else 'model'}: onnxruntime: {error}") from error
        self.outputs = [output.name for output in self.session.get_outputs()]
        (entry,) = self.session.get_inputs()
        self.input, self.shape = entry.name, list(entry.shape)

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """UserError for an input of another size than the file was exported for."""
        sizes = zip(self.shape, x.shape, strict=False)
        if len(self.shape) != x.dim() or any(isinstance(size, int) and size != here for size, here in sizes):
            raise UserError(f"the file takes inputs of {self.shape}, got {list(x.shape)}: export it with --size")
        found = self.session.run(None, {self.input: x.contiguous().cpu().numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(self.outputs, found, strict=True)}

    def metadata(self) -> dict[str, str]:
        return dict(self.session.get_modelmeta().custom_metadata_map)


class OnnxDetector(nn.Module):
    """Detections of an exported file, as its detector in PyTorch gives them; `head` has the thresholds of their
    selection, and decodes the logits of a file of `--raw`."""

    def __init__(self, session: Session, head: Head):
        super().__init__()
        self.session, self.head = session, head

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        """Of a file of a fixed number of images fewer are filled up, and what is found there left out."""
        axis = 1 if x.dim() == 5 else 0
        fixed, count = self.session.shape[axis], x.shape[axis]
        if isinstance(fixed, int) and count < fixed:
            x = torch.cat([x, x.narrow(axis, 0, 1).repeat_interleave(fixed - count, axis)], axis)
        found = {name: value[:count] for name, value in self.session(x).items()}
        if "boxes" not in found:
            return self.head.decode(list(found.values()), (x.shape[-2], x.shape[-1]))
        selection: dict[str, Any] = self.head.selection  # type: ignore[attr-defined]
        return [select_detections(b, s, **selection) for b, s in zip(found["boxes"], found["scores"], strict=True)]


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    if not names:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {output.name for output in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    return copy
