"""The content of a checkpoint: tensors and plain values only, checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from registry import UserError

from .file import read_checked
from .plain import check_plain
from .weights_file import read_weights

FORMAT = "spikesight-1"
ENTRIES: dict[str, type] = {
    "model": dict,
    "ema": dict,
    "ema_updates": int,
    "optimizer": dict,
    "scaler": dict,
    "epoch": int,
    "batch": int,
    "batches_per_step": int,
    "running": dict,
    "streams": dict,
    "scored": bool,
    "best": float,
    "waited": int,
    "metrics": dict,
    "steps_per_epoch": int,
    "generators": list,
    "machine": dict,
    "model_kwargs": dict,
    "class_names": list,
    "input": dict,
    "config": dict,
    "conversion": dict,
    "annealed": dict,
    "teacher": str,
    "description": dict,
}
PLAIN = (str, int, float, bool, type(None))
MAX_VALUES = 1_000_000  # tensors and plain values; those of a network of 300 layers and its optimizer are 10,000


class Content(dict):
    """The entries of a checkpoint. A missing one raises a UserError naming file and entry."""

    def __init__(self, path: Path, content: dict[str, Any]):
        super().__init__(content)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise UserError(
            f"{self.path}: a checkpoint without entry {key!r}: not one of train.py, or of another version of it"
        )


def checkpoint_in(path: str | Path) -> Path:
    """`path`, or where it is a folder its best checkpoint, or the last one if no epoch was scored."""
    path = Path(path).expanduser()
    if not path.is_dir():
        return path
    found = [file for name in ("best", "last") if (file := path / f"checkpoint_{name}.pt").is_file()]
    if not found:
        raise UserError(f"{path}: no checkpoint in this folder. Name a run folder, as runs/demo, or a checkpoint")
    return found[0]


def load_checkpoint(path: str | Path) -> Content:
    """Read a checkpoint. UserError if it is damaged, hostile, not finite, or not one of this project."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a checkpoint in it, such as {path / 'checkpoint_best.pt'}")
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint. Name a run folder, as runs/demo, or a file in it")
    content = _read_weights(path) if path.suffix == ".safetensors" else read_checked(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of this project (no format {FORMAT!r})")
    for key, value in content.items():
        kind = ENTRIES.get(key, object)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UserError(f"{path}: entry {key!r} is of type {type(value).__name__}, not {kind.__name__}")
        if isinstance(value, (int, float)) and not (0 if kind is int else -1) <= value < float("inf"):  # nor NaN
            raise UserError(f"{path}: entry {key!r} is {value}, which no training writes")
    for key in ("model", "ema"):
        for name, value in content.get(key, {}).items():
            if not isinstance(name, str) or not isinstance(value, Tensor):
                raise UserError(f"{path}: entry {key!r} holds {name!r:.80} of type {type(value).__name__}, no tensor")
    try:
        bad = first_not_finite(content)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    if bad:
        raise UserError(
            f"{path}: {bad}, so its scores would mean nothing. The run had diverged: use an earlier checkpoint, or "
            "train again with a lower optim.lr or train.clip_norm"
        )
    return Content(path, content)


def _read_weights(path: Path) -> dict[str, Any]:
    """The content of a file of `export.py --format safetensors`: its weights are those named in it, ema or model."""
    weights, entries = read_weights(path)
    check_plain(entries, str(path))
    return {"format": FORMAT, **entries, str(entries.pop("weights", "ema")): weights}


def first_not_finite(content: dict[str, Any]) -> str | None:
    """Describes the first tensor with NaN or infinity; None without one. UserError for content that train.py never
    writes: tensors without storage of their own, values nested or repeated without end, objects."""
    to_visit: list[tuple[str, Any]] = [("", content)]
    left = MAX_VALUES
    while to_visit:
        name, value = to_visit.pop()
        if isinstance(value, (dict, list, tuple)):
            left -= 1 + len(value)
            if left < 0:
                raise UserError(f"holds more than {MAX_VALUES:,} values: not a checkpoint of train.py")
            items = list(value.items() if isinstance(value, dict) else enumerate(value))
            to_visit += [(f"{name}.{key}" if name else str(key), item) for key, item in reversed(items)]
        elif isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_meta:
                raise UserError(f"{name} is a tensor that is not stored as numbers: not one of train.py")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise UserError(f"{name} is a tensor larger than what is stored of it: not one of train.py")
            if value.is_floating_point() and not (finite := value.isfinite()).all():
                return f"{name} holds {int((~finite).sum())} of {value.numel()} values that are not finite"
        elif type(value) not in PLAIN:
            raise UserError(f"{name} is of type {type(value).__name__}, neither a tensor nor a plain value")
    return None


def load_weights(model: nn.Module, weights: dict[str, Tensor], path: str | Path, strict: bool = True) -> None:
    """Copy the weights of the checkpoint `path` into `model`. UserError if names or shapes differ, or if a module
    rejects weights of an earlier version of its wiring."""
    try:
        model.load_state_dict(weights, strict)
    except (RuntimeError, AttributeError, TypeError) as error:  # also of odd version numbers beside the weights
        raise UserError(f"{path}: {error}") from error
