"""Resolve image names of untrusted label files safely: to files below a folder that the user named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

from ..type_checks import is_text

_SAMPLE = 1000  # names checked to choose a folder


def is_file_name(name: object) -> TypeGuard[str]:
    """Whether a file can have this name: text without a null character."""
    return is_text(name) and "\0" not in name


def path_below(folder: str | Path, name: str) -> str | None:
    """Path of `name` in `folder` or below; None where it leads out of the folder (path traversal).

    `name` may be absolute if it begins with `folder`. Symbolic links are followed: their author can write there anyway.
    `..` is resolved lexically, before any link.
    """
    path = os.path.normpath(name)
    if os.path.isabs(path):
        return path if path.startswith(os.path.abspath(folder).rstrip(os.sep) + os.sep) else None
    return None if path.split(os.sep, 1)[0] == os.pardir else os.path.normpath(os.path.join(folder, path))


def choose_folder(folders: Sequence[Path], names: Sequence[str]) -> tuple[Path, bool]:
    """(the one of `folders` with most of the files `names`, whether backslashes in names separate folders).

    At most `_SAMPLE` names are checked. The first of equal folders wins; without any file, the first that exists."""
    some = names[:: max(1, len(names) // _SAMPLE)]
    ways = [(folder, slashes) for slashes in (False, any("\\" in name for name in some)) for folder in folders]
    counts = [sum(_is_file(folder, as_path(name, slashes)) for name in some) for folder, slashes in ways]
    if not any(counts):
        return next((folder for folder in folders if folder.is_dir()), folders[0]), False
    return ways[counts.index(max(counts))]


def as_path(name: str, backslashes: bool) -> str:
    return name.replace("\\", "/") if backslashes else name


def _is_file(folder: Path, name: str) -> bool:
    path = path_below(folder, name)
    return path is not None and os.path.isfile(path)


def which_are_files(paths: Sequence[str]) -> list[bool]:
    """Which of `paths` are regular files. One listing per folder: 120k single queries take minutes on a network disk. A
    broken link is none."""
    files: set[str] = set()
    for folder in {os.path.dirname(path) for path in paths}:
        if os.path.isdir(folder or "."):
            files |= {os.path.join(folder, entry.name) for entry in os.scandir(folder or ".") if entry.is_file()}
    return [path in files for path in paths]
