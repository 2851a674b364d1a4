"""The checkpoint that a run continues from: the newest one that is not damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from registry import UserError

from .checkpoint import Content, load_checkpoint, save_checkpoint
from .files import BEST, DAMAGED, KEPT, LAST, PREVIOUS


def save_all(
    folder: Path, names: list[str], content: dict[str, Any], before: dict[str, Any] | None = None
) -> dict[str, str]:
    """Write checkpoints of these names; the `checkpoint_last.pt` of before becomes `checkpoint_previous.pt`.

    Returns {name: message} of those that could not be written, which are as they were. before: entries of the best
    score for those that follow a `checkpoint_best.pt` of them.
    """
    failed: dict[str, str] = {}
    for name in names:
        try:
            save_checkpoint(folder / name, content, previous=folder / PREVIOUS if name == LAST else None)
        except OSError as error:
            failed[name] = str(error)
            content = content | before if name == BEST and before is not None else content
    return failed


def resumable(folder: Path) -> list[Path]:
    """The checkpoints of a run that it can continue from, the newest first."""
    kept = sorted(folder.glob(KEPT.format("[0-9]*")), key=lambda path: path.stat().st_mtime, reverse=True)
    return [path for path in (*(folder / name for name in (LAST, PREVIOUS, BEST)), *kept) if path.is_file()]


def open_newest(folder: Path) -> tuple[Path, Content, list[str]]:
    """(path, content) of the first of `resumable` that can be read, and a line for the user for each that cannot.

    UserError about the newest where none can be read, or there is none.
    """
    errors: list[UserError] = []
    for path in resumable(folder):
        try:
            content = load_checkpoint(path)
        except UserError as error:
            errors.append(error)
            continue
        lines = [f"warning: {error}" for error in errors]
        if path.name != LAST:
            lines.append(f"{folder} has no {LAST} that can be read: continues from the one before, {path.name}")
        return path, content, lines
    raise errors[0] if errors else UserError(f"{folder}: no {LAST} to resume from")


def set_damaged_aside(folder: Path, used: Path) -> None:
    """Rename the checkpoints that come before `used` in `resumable`, so that the next save does not put a damaged file
    in the place of the one before."""
    for path in resumable(folder):
        if path == used:
            break
        path.rename(path.with_name(path.stem + DAMAGED))
