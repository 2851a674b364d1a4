"""Text header of Prophesee `.dat` and `.raw` recordings: lines `% key value`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..files import require_regular
from ..problems import Problem

MAX_BYTES = 1 << 16  # cameras and tools write less than 4 KiB
_LINE = 4096


class TextHeader(NamedTuple):
    """fields: {key in lower case: value}; head: the first two bytes after the header, at byte `offset` of a file of
    `size` bytes."""

    fields: dict[str, str]
    offset: int
    head: bytes
    size: int


def read_text_header(path: str | Path) -> TextHeader | Problem:
    """Lines up to `% end` or the first one without `% `. A fatal `Problem` for a header that is cut off within a line,
    or longer than `MAX_BYTES`. OSError when the file is not there, ValueError where it is no regular one."""
    require_regular(path)
    fields: dict[str, str] = {}
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        offset = file.seek(0)
        while (head := file.read(2)) == b"% ":
            line = file.readline(_LINE)
            if not line.endswith(b"\n"):
                return Problem("truncated header", path, f"byte {offset}", line[:40], "Copy the file again", fatal=True)
            offset = file.tell()
            if offset > MAX_BYTES:
                remedy = "This is no recording, or a damaged one: copy the file again"
                what = f"more than {MAX_BYTES} bytes"
                return Problem("header too long", path, f"byte {offset}", what, remedy, fatal=True)
            key, _, value = line.decode("ascii", "replace").strip().partition(" ")
            if key.lower() == "end":
                head = file.read(2)
                break
            fields[key.lower()] = value.strip()
    return TextHeader(fields, offset, head, size)
