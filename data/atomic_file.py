"""Atomic writes: a file holds its old content or all of the new content, whatever happens during the write."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

SUFFIX = ".partial"


def write_atomically(
    path: str | Path, content: str | Callable[[Path], object], previous: str | Path | None = None
) -> None:
    """Replace the file `path` by `content`: text, or a function (path) that writes the file at the path.

    The content is written to a temporary file beside `path`, synced and renamed. Its name is unique, so several
    processes may write at once. previous: a name beside `path` under which the file before is kept, once the new one
    is complete. On failure the temporary file is removed, and an OSError names path, reason and free
    bytes.
    """
    path = Path(path)
    partial = _partial(path)
    try:
        if callable(content):
            content(partial)
        else:
            partial.write_text(content)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            _keep(path, Path(previous))
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, (OSError, RuntimeError)):  # torch.save turns a full disk into a RuntimeError
            raise _not_written(path, error) from error
        raise


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}")


def _keep(path: Path, previous: Path) -> None:
    """Give the file `path` the second name `previous`, in the place of what had it."""
    link = _partial(previous)
    try:
        os.link(path, link)
        os.replace(link, previous)
    except OSError:  # a file system without links: for a moment there is no `path`
        os.replace(path, previous)
    finally:
        link.unlink(missing_ok=True)  # rename keeps it where both are the same file


def append_line(path: Path, line: str) -> None:
    """Append a line to a text file. An incomplete last line, left by a crash or a full disk, is terminated first."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        file.write(f"{line}\n".encode())


def remove_partial_files(folder: Path) -> None:
    """Remove temporary files that killed processes left in `folder`. No other process may be writing there."""
    for partial in folder.glob(f".*{SUFFIX}"):
        partial.unlink(missing_ok=True)


def _not_written(path: Path, error: OSError | RuntimeError) -> OSError:
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
    try:
        room = f"; {shutil.disk_usage(path.parent).free:,} bytes are free on that disk"
    except OSError:
        room = ""
    return OSError(f"{path}: could not be written and is as it was before: {reason}{room}")
