"""Safe reading of untrusted files: regular files only, no link cycles, text and YAML of bounded size."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from registry import UserError

LONGEST_YAML = 1 << 20  # bytes
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def regular_only(path: str, flags: int) -> int:
    """For `open(..., opener=regular_only)`: the descriptor of a regular file, also through links.

    OSError for anything else: opening a named pipe blocks until there is a writer, and a device may be endless.
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
        raise UserError(f"{path}: {_not_regular(mode)}. Copy the data into one")


def _not_regular(mode: int) -> str:
    return f"{_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a regular file"


def walk(folder: str | Path) -> Iterator[str]:
    """Paths of all files in `folder` and below, without hidden ones. Links are followed, except those to a parent."""
    for place, folders, names in os.walk(os.path.abspath(folder), followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_back(place, name)]
        yield from (os.path.join(place, name) for name in names if not name.startswith("."))


def _leads_back(place: str, name: str) -> bool:
    """Whether a link points to one of its parent folders, which would recurse forever."""
    link = os.path.join(place, name)
    return os.path.islink(link) and Path(os.path.realpath(place)).is_relative_to(os.path.realpath(link))


def text_lines(file: Path) -> list[str]:
    """Non-empty lines, stripped. ValueError where `file` is not UTF-8 text."""
    try:
        with open(file, encoding="utf-8-sig", opener=regular_only) as lines:
            return [line.strip() for line in lines.read().splitlines() if line.strip()]
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{file}: not a text file in UTF-8: {error}. Name another, or save it as UTF-8") from error


class _WithoutAliases(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        # Nested aliases expand exponentially ("billion laughs").
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: alias *{event.anchor}. Write its value out")
        return super().compose_node(parent, index)


def read_yaml(file: Path) -> Any:
    """The content of a YAML file. ValueError where it is no YAML, longer than `LONGEST_YAML`, or has aliases."""
    try:
        with open(file, "rb", opener=regular_only) as stream:
            raw = stream.read(LONGEST_YAML + 1)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error}. Make it a readable yaml file") from error
    if len(raw) > LONGEST_YAML:
        raise UserError(f"{file}: longer than {LONGEST_YAML >> 20} MiB. Name the yaml file of the data set")
    try:
        return yaml.load(raw.decode("utf-8-sig"), _WithoutAliases)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, a month 13, a huge integer
        raise UserError(f"{file}: not a readable yaml file: {error}") from error
