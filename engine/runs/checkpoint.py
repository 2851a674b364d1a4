"""Write checkpoints, atomically, and start from those of other runs. `models.checkpoints` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.atomic_file import write_atomically
from models import Detector
from models.checkpoints.content import (
    FORMAT,
    Content,
    checkpoint_in,
    first_not_finite,
    load_checkpoint,
    load_weights,
)
from models.checkpoints.file import write_checked
from models.transfer import fitting_weights
from registry import UserError

__all__ = ["Content", "checkpoint_in", "init_from", "load_checkpoint", "load_weights", "save_checkpoint"]


def save_checkpoint(path: str | Path, content: dict[str, Any], previous: Path | None = None) -> None:
    """Write a checkpoint atomically; the file before is kept as `previous`, if that is given.

    FloatingPointError naming the first tensor that is not finite: such a checkpoint is never written. UserError for a
    value that could not be loaded again, OSError where the disk is full.
    """
    if bad := first_not_finite(content):
        raise FloatingPointError(
            f"{path}: not written, {bad}. The checkpoint before is as it was; continue from it with a lower optim.lr "
            "or train.clip_norm, and check the data with python -m data.check"
        )
    write_atomically(path, lambda partial: write_checked({"format": FORMAT, **content}, partial), previous)


def init_from(model: Detector, path: str | Path, class_names: list[str]) -> str:
    """Initialise `model`, of `class_names`, from the averaged weights of another run or checkpoint, as far as they fit
    (`fitting_weights`). Returns one line for the user. UserError unless most convolutions fit."""
    path = checkpoint_in(path)
    content = load_checkpoint(path)
    neuron = content.get("model_kwargs", {}).get("neuron")
    transfer = fitting_weights(model, content["ema"], content.get("class_names"), class_names, neuron)
    fit = sum(len(model.state_dict()[key].shape) == 4 for key in transfer.weights)
    differ = sum(len(here) == 4 for _, _, here in transfer.shape_differs)
    if differ >= fit:
        raise UserError(
            f"{path}: does not fit the model: {transfer}. Take a checkpoint of the same family and width (model.name, "
            "model.args), or leave train.init_from out"
        )
    load_weights(model, transfer.weights, path, strict=False)
    return f"starts from {path}: {transfer}"
