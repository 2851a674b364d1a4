"""--format torch: a program of torch.export, of PyTorch's own operators, which runs without this project."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from data.atomic_file import write_atomically
from models.contracts import GivesCandidates
from models.deploy.plain import decompositions, plain_copy
from models.detector import Detector
from registry import UserError

from ..runs.open import Run
from .description import describe
from .options import ExportOptions
from .samples import detector_of, samples_of

FILE = "spikesight.json"  # within the program
TOLERANCE = 1e-3


class Outputs(nn.Module):
    """x -> boxes [B, M, 4] xyxy in pixels of x and scores [B, M, K], before thresholds; or the logits per level."""

    def __init__(self, detector: Detector, raw: bool):
        super().__init__()
        self.detector, self.raw = detector, raw

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        logits, head = self.detector.logits(self.detector.encode(x)), cast(Any, self.detector.head)
        return tuple(logits) if self.raw else head.candidates(logits)


def write_program(run: Run, out: Path, options: ExportOptions) -> None:
    """UserError, and no file, if the program, loaded again, computes something else than the detector."""
    options.refuse("torch", "int8", "images", "score", "split", "upto")
    samples = samples_of(run, options)
    model = detector_of(run, options, samples)
    if not options.raw and not isinstance(model.head, GivesCandidates):
        raise UserError(f"{type(model.head).__name__} has no `candidates`, boxes and scores of all cells: use --raw")
    axis = 1 if samples.x.dim() == 5 else 0
    x = samples.x.repeat_interleave(2, axis) if samples.x.shape[axis] == 1 and not options.batch else samples.x
    sizes = None if options.batch else {axis: torch.export.Dim("images", min=1, max=4096)}
    outputs = Outputs(plain_copy(model, fft=True), options.raw)
    with torch.no_grad():
        program = torch.export.export(outputs, (x,), dynamic_shapes=None if sizes is None else {"x": sizes})
        program = program.run_decompositions(decompositions())
        about = json.dumps({**describe(run, model, options.weights), "input": samples.input})
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={FILE: about})
        buffer.seek(0)
        found = torch.export.load(buffer).module()(samples.x)
        difference = _difference(found, Outputs(model, options.raw)(samples.x))
    if difference > TOLERANCE:
        raise UserError(f"the loaded program differs by {difference:.1e} from the detector on {samples.source}")
    print(f"the loaded program on {samples.source}: outputs agree to {difference:.1e}")
    write_atomically(out, lambda partial: partial.write_bytes(buffer.getvalue()))


def _difference(found: Any, wanted: Any) -> float:
    pairs = zip(found, wanted, strict=True)
    return max(float(((a - b).abs() / b.abs().clamp(min=1)).max()) for a, b in pairs)
