"""Names of images in label files, which may be anybody's: each leads to a file below a folder that the user named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

from ..type_checks import is_text

_SAMPLE = 1000  # names that a folder is chosen by


def is_file_name(name: object) -> TypeGuard[str]:
    """Text that a system can open a file by."""
    return is_text(name) and "\0" not in name


def path_below(folder: str | Path, name: str) -> str | None:
    """Path of what a label file calls `name`, in `folder` or below; None where it leads out of it.

    `name` may be absolute where it begins with `folder`. Links on the way are followed: whoever made them may write
    there anyway. But `..` is resolved by its letters, so that a link cannot turn it elsewhere.
    """
    path = os.path.normpath(name)
    if os.path.isabs(path):
        return path if path.startswith(os.path.abspath(folder).rstrip(os.sep) + os.sep) else None
    return None if path.split(os.sep, 1)[0] == os.pardir else os.path.normpath(os.path.join(folder, path))


def choose_folder(folders: Sequence[Path], names: Sequence[str]) -> tuple[Path, bool]:
    """(the one of `folders` that holds most of the files `names`, whether their backslashes mean folders), judged by
    some of many; the first of several that hold as many, and of folders that exist where none holds any."""
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
    """Which of `paths` are regular files, by one listing of each folder: asking for 120k files one by one takes minutes
    on a network disk. A link that leads nowhere is none."""
    files: set[str] = set()
    for folder in {os.path.dirname(path) for path in paths}:
        if os.path.isdir(folder or "."):
            files |= {os.path.join(folder, entry.name) for entry in os.scandir(folder or ".") if entry.is_file()}
    return [path in files for path in paths]
