"""JSON files written entry by entry (`JsonStream`), in memory that does not grow with their number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class JsonStream:
    """A list of entries between `before` and `after`. The file has its name once it is closed."""

    def __init__(self, path: Path, before: str = "[", after: str = "]"):
        self.path, self._after, self._any = path, after, False
        self._partial = path.with_name(f".{path.name}.partial")
        self._file = self._partial.open("w", encoding="utf-8")
        self._file.write(before)

    def add(self, entry: dict[str, Any]) -> None:
        self._file.write((",\n" if self._any else "\n") + json.dumps(entry))
        self._any = True

    def close(self, last: str = "") -> None:
        """last: written after `after`'s first character, which closes the list."""
        self._file.write(f"\n{self._after[0]}{last}{self._after[1:]}\n")
        self._file.close()
        self._partial.replace(self.path)
