"""Whether a run folder takes the checkpoints of a training, before it begins."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn

from registry import UserError

from ..loop import Update
from .files import BEST, LAST, PREVIOUS


def checkpoint_bytes(model: nn.Module, update: Update) -> int:
    """About the size of a checkpoint, at most: weights, averages, and the two values per weight of AdamW."""
    tensors = [*model.state_dict().values(), *update.ema.module.state_dict().values()]
    states = 2 * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return states + sum(t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor))


def check_room(folder: Path, size: int) -> None:
    """UserError unless `folder` is writable and its disk has room for checkpoints of `size` bytes.

    A run holds the last checkpoint, the one before and the best one, and for a moment the next one.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"{folder}: checkpoints cannot be written there: {error.strerror or error}") from error
    missing = 1 + sum(not (folder / name).is_file() for name in (LAST, PREVIOUS, BEST))
    if free < missing * size:
        raise UserError(
            f"{folder}: the disk has {free:,} bytes free, but {missing} checkpoints of about {size:,} bytes each are "
            "to be written there. Make room, or start the run elsewhere with out=FOLDER"
        )
