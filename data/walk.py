"""All files below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def walk(folder: str | Path) -> Iterator[str]:
    """Paths of all files in `folder` and below but hidden ones; links are followed, unless they lead back."""
    for place, folders, names in os.walk(os.path.abspath(folder), followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_back(place, name)]
        yield from (os.path.join(place, name) for name in names if not name.startswith("."))


def _leads_back(place: str, name: str) -> bool:
    """A link to a folder that it lies in: following it would never end."""
    link = os.path.join(place, name)
    return os.path.islink(link) and Path(os.path.realpath(place)).is_relative_to(os.path.realpath(link))
