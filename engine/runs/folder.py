"""Create, find and overwrite run folders."""

from __future__ import annotations

import datetime
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from data.atomic_file import write_atomically
from registry import UserError, did_you_mean

from ..interrupts import Preempted
from .files import LAST, MARKER, discard, remove_written, run_name
from .lock import RunLock, owner
from .newest import open_newest, resumable


def check_name(name: str) -> None:
    """ValueError unless `name` is one path component, printable, of at most 200 bytes."""
    if name in ("", ".", "..") or any(mark in name for mark in "/\\") or not name.isprintable() or name != name.strip():
        raise UserError(f"name = {name!r}: give one folder name, without / and \\, for the run folder <out>/<name>")
    if (size := len(name.encode())) > 200:
        raise UserError(f"name = {name[:40]!r}...: {size} bytes long; give at most 200")


def check_new_run(out: str, name: str, overwrite: bool = False) -> None:
    """UserError if `new_run_folder` would fail: an invalid name, a folder that is not writable, or `overwrite` of a
    folder that is not a run or is being trained."""
    check_name(name)
    above = Path(out).absolute()
    while not above.exists() and above != above.parent:
        above = above.parent
    try:
        if not above.is_dir():
            raise NotADirectoryError(20, "is a file", str(above))
        with tempfile.TemporaryDirectory(prefix=".spikesight_", dir=above):
            pass
    except OSError as error:
        raise UserError(
            f"out = {out}: run folders cannot be made in {above}: {error.strerror}; choose another"
        ) from error
    if overwrite:
        _check_overwritable(Path(out) / name)


def new_run_folder(out: str, name: str, overwrite: bool = False, again: Path | None = None) -> Path:
    """<out>/<name>, or <name>-2, <name>-3 ... where that exists, with its marker.

    With `overwrite` the files of an earlier run of that name are removed, with `again` those of the run there; other
    files stay. UserError as `check_new_run`.
    """
    check_name(name)
    first = again or Path(out) / name
    if (overwrite or again) and first.exists():
        _check_overwritable(first)
        with RunLock(first):
            remove_written(first)
            _mark(first, name)
        return first
    for suffix in ["", *(f"-{i}" for i in range(2, 10_000))]:
        folder = Path(out) / f"{name}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not Path(out).is_dir():
                raise UserError(f"out = {out}: is a file; choose another folder") from None
            continue
        except OSError as error:
            raise UserError(f"out = {out}: {folder} cannot be made: {error.strerror}; choose another") from error
        _mark(folder, name)
        return folder
    raise UserError(f"{out}: too many runs named {name}")


@contextmanager
def discarded_without_checkpoint(folder: Path) -> Iterator[None]:
    """Context around training: remove the files of a run that is interrupted, or fails with a ValueError, before its
    first checkpoint. KeyboardInterrupt is raised again, of its type, with how to continue. A run that a queue has
    interrupted keeps its folder, where it starts over."""
    try:
        yield
    except Preempted as error:
        raise Preempted(str(error) or f"{folder} continues, or starts over, with --resume {folder}") from None
    except (KeyboardInterrupt, ValueError) as error:
        gone = discard(folder)
        if not isinstance(error, KeyboardInterrupt):
            raise
        if gone is None:
            said = str(error) or f"continue after the last checkpoint with --resume {folder}"
        else:
            what = f"{folder} was removed" if gone else f"{folder} holds nothing to resume"
            said = f"nothing was saved, {what}; start again without --resume"
        raise type(error)(said) from None


class Found(NamedTuple):
    """A run found by its name: folder, progress (`trained` of `epochs`), and why it cannot be resumed, else ""."""

    folder: Path
    trained: int
    epochs: int
    why_not: str

    @property
    def unfinished(self) -> bool:
        return not self.why_not and self.trained < self.epochs

    def __str__(self) -> str:
        if self.why_not:
            return f"{self.folder} ({self.why_not})"
        return f"{self.folder} ({self.trained} of {self.epochs} epochs trained)"


def run_to_resume(out: str, name: str, given: str) -> Path:
    """The folder of `given` (a run folder, or its checkpoint), or with "" the run of exactly this name to continue.

    That is the newest one that has epochs left, else the newest. UserError with the reason if a newer one was
    interrupted too early or is being trained.
    """
    if given:
        return _given(Path(given).expanduser())
    runs = runs_named(out, name)
    if not runs:
        others = sorted({other for path in _folders(out) if (other := run_name(path)) is not None})
        near = did_you_mean(name, others) or (f"; there are {', '.join(others[:5])}" if others else "")
        raise UserError(f"{out}: no run named {name} to resume{near}. Start without --resume, or name it: --resume RUN")
    chosen = next((run for run in runs if run.unfinished), runs[0])
    for run in runs[: runs.index(chosen) + 1]:
        if run.why_not:
            known = "; ".join(str(other) for other in runs if not other.why_not)
            instead = f"Name another: --resume with {known}. Or start" if known else "Start"
            raise UserError(f"{run.folder}, the newest run named {name}: {run.why_not}. {instead} without --resume")
    return chosen.folder


def run_to_continue(out: str, name: str) -> tuple[Path | None, bool]:
    """For `--resume auto`: (folder, True) of the run of this name to resume, the newest with epochs left, else the
    newest; (folder, False) where that was interrupted before its first checkpoint, and starts over there; (None, False)
    where there is none. ValueError where one is being trained.
    """
    runs = runs_named(out, name)
    for run in runs:
        if (busy := owner(run.folder)) is not None:
            raise UserError(busy)
    chosen = next((run for run in runs if run.unfinished), runs[0] if runs else None)
    if chosen is None:
        return None, False
    if chosen.why_not and resumable(chosen.folder):
        raise UserError(f"{chosen.folder}: {chosen.why_not}")
    return chosen.folder, not chosen.why_not


def runs_named(out: str, name: str) -> list[Found]:
    """All runs in `out` that were given exactly this name, <name>-2 ... among them, newest first."""
    found = []
    for folder in _folders(out):
        if run_name(folder) == name:
            written = (*resumable(folder)[:1], folder / MARKER)
            found.append((max((p.stat().st_mtime for p in written if p.exists()), default=0.0), folder))
    return [_look_at(folder) for _, folder in sorted(found, reverse=True)]


def _look_at(folder: Path) -> Found:
    if owner(folder) is not None:
        return Found(folder, 0, 0, "it is being trained")
    if not resumable(folder):
        return Found(folder, 0, 0, "it was interrupted before its first checkpoint, so there is nothing to continue")
    try:
        _, content, _ = open_newest(folder)
        done = content["epoch"] - (not content.get("scored", True))  # an epoch without its score is not finished
        settings, epochs = content["config"]["train"], int(content["config"]["train"]["epochs"])
        gave_up = (patience := settings.get("patience")) is not None and content.get("waited", 0) >= int(patience)
        return Found(folder, done, done if gave_up and "batch" not in content else epochs, "")
    except (ValueError, KeyError, TypeError) as error:
        return Found(folder, 0, 0, f"its checkpoint cannot be read: {error}")


def _given(path: Path) -> Path:
    folder = path.parent if path.is_file() else path
    if path.is_file() and path not in resumable(folder)[:1]:
        raise UserError(f"{path}: a run resumes from its {LAST}; to start from other weights: train.init_from")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder")
    if not resumable(folder) and run_name(folder) is None:
        raise UserError(f"{folder}: not a run's folder, there is no {LAST} in it to resume from")
    if (busy := owner(folder)) is not None:
        raise UserError(busy)
    return folder


def _folders(out: str) -> list[Path]:
    return sorted(path for path in Path(out).iterdir() if path.is_dir()) if Path(out).is_dir() else []


def _check_overwritable(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and run_name(folder) is None):
        raise UserError(f"{folder}: not overwritten, it is no run's folder; choose another name")
    if (busy := owner(folder)) is not None:
        raise UserError(f"{busy} (overwrite=true)")


def _mark(folder: Path, name: str) -> None:
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_atomically(folder / MARKER, json.dumps({"name": name, "started": started}) + "\n")
