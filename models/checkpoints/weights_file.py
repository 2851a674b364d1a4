"""Weights as safetensors: the state dict under its own names, and in the metadata what rebuilds the detector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from registry import UserError

KEY = "spikesight"  # of the metadata: JSON
NEEDS = 'safetensors is not installed: pip install -e ".[export]"'


def write_weights(path: Path, weights: dict[str, Tensor], entries: dict[str, Any]) -> None:
    """entries: plain values, those of a checkpoint and a description."""
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise UserError(NEEDS) from error
    save_file({key: value.contiguous().clone() for key, value in weights.items()}, path, {KEY: json.dumps(entries)})


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inverse of `write_weights`, tensors on the CPU. UserError for a damaged file, and one of another program."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise UserError(f"{path}: {NEEDS}") from error
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
            if text is None:
                raise UserError(
                    f"{path}: safetensors of another program (no metadata {KEY!r}): their names and network are not "
                    "known here"
                )
            return {key: file.get_tensor(key) for key in file.keys()}, dict(json.loads(text))  # noqa: SIM118
    except UserError:
        raise
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); copy it again") from error
