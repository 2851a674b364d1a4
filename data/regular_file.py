"""Opens regular files only: a named pipe would wait for a writer for ever, a device need not end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def regular_only(path: str, flags: int) -> int:
    """For `open(..., opener=regular_only)`: the descriptor of a regular file, also through links.

    OSError for anything else, without waiting for it.
    """
    file = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return file
    os.close(file)
    raise OSError(_not_regular(mode))


def require_regular(path: str | Path) -> None:
    """Before a library opens `path` by itself: ValueError unless it is a regular file or a link to one; OSError where
    there is none."""
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path}: {_not_regular(mode)}. Copy the data into one")


def _not_regular(mode: int) -> str:
    return f"{_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a regular file"
