"""Checkpoints: tensors and plain values only, written atomically, read with `weights_only=True`."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models import Detector, create_model

FORMAT = "spikesight-1"


def save_checkpoint(path: str | Path, content: dict[str, Any]) -> None:
    """A crash at any moment leaves either the old file or the new one."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    torch.save({"format": FORMAT, **content}, partial)
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name a checkpoint in it, such as {path / 'checkpoint_best.pt'}")
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: not a readable checkpoint of tensors and plain values, and nothing else") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: not a checkpoint of this project (no format {FORMAT!r})")
    return content


def load_detector(path: str | Path, weights: str = "ema") -> tuple[Detector, dict[str, Any]]:
    """The model of a checkpoint, in evaluation mode, with its averaged weights ("ema") or the last ones ("model").

    Returns (model, checkpoint content). Rebuilt through the registry: no class path is ever read from a file.
    """
    content = load_checkpoint(path)
    model = create_model(**content["model_kwargs"])
    load_weights(model, content[weights], path)
    return model.eval(), content


def load_weights(model: nn.Module, weights: dict[str, Tensor], path: str | Path, strict: bool = True) -> None:
    """Copy the weights of the checkpoint `path` into `model`. ValueError where a module refuses them, as a network does
    whose wiring has changed since, or where names or shapes differ."""
    try:
        model.load_state_dict(weights, strict)
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from error


def init_from(model: Detector, path: str | Path) -> str:
    """Start `model` from another run's averaged weights where name and shape agree; says in one line what was taken."""
    source, own = load_checkpoint(path)["ema"], model.state_dict()
    taken = copy.copy(source)  # unlike dict(source), with the versions of the modules that wrote it
    for key in source:
        if key not in own or own[key].shape != source[key].shape:
            del taken[key]
    if not taken:
        raise ValueError(f"{path}: no weight fits the model, is it of another family?")
    load_weights(model, taken, path, strict=False)
    left = [key for key in own if key not in taken]
    rest = f"; not found there: {', '.join(left[:4])}{' ...' if len(left) > 4 else ''}" if left else ""
    return f"{len(taken)} of {len(own)} tensors start from {path}{rest}"
