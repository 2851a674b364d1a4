"""Files that hold their old content or all of the new one, whatever happens while they are written."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

SUFFIX = ".partial"


def write_atomically(path: str | Path, content: str | Callable[[Path], object]) -> None:
    """Replace the file `path` by `content`: text, or a function that writes the file whose path it is given.

    The new file is written under a name of its own beside `path`, so that several processes may write at once, and
    renamed when it is on the disk. OSError naming path, reason and free bytes where that fails; no part of the new file
    is left then.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}")
    try:
        if callable(content):
            content(partial)
        else:
            partial.write_text(content)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, (OSError, RuntimeError)):  # torch.save turns a full disk into a RuntimeError
            raise _not_written(path, error) from error
        raise


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file; one that a crash or a full disk cut off stays a line of its own."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        file.write(f"{line}\n".encode())


def remove_partial_files(folder: Path) -> None:
    """Remove what killed processes left of files in `folder`. Nobody else may be writing there."""
    for partial in folder.glob(f".*{SUFFIX}"):
        partial.unlink(missing_ok=True)


def _not_written(path: Path, error: OSError | RuntimeError) -> OSError:
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
    try:
        room = f"; {shutil.disk_usage(path.parent).free:,} bytes are free on that disk"
    except OSError:
        room = ""
    return OSError(f"{path}: could not be written and is as it was before: {reason}{room}")
