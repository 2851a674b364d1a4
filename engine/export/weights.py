"""--format safetensors: the weights and what rebuilds the detector; all commands read it like a checkpoint."""

from __future__ import annotations

from pathlib import Path

from data.atomic_file import write_atomically
from models.checkpoints.weights_file import write_weights
from registry import UserError

from ..runs.open import Run
from .description import describe
from .options import ExportOptions

KEPT = ("model_kwargs", "class_names", "input", "config", "annealed", "epoch")


def write_safetensors(run: Run, out: Path, options: ExportOptions) -> None:
    options.refuse("safetensors", "size", "batch", "raw", "binary", "int8", "images", "score", "split", "upto")
    if run.ann is not None:
        raise UserError(
            f"{run.checkpoint}: a converted network has the weights of its source, with scales and biases from "
            "calibration: export the source, or the converted network as ONNX"
        )
    entries = {key: run.content[key] for key in KEPT if key in run.content}
    entries |= {"weights": options.weights, "description": describe(run, run.model, options.weights)}
    write_atomically(out, lambda partial: write_weights(partial, run.model.state_dict(), entries))
