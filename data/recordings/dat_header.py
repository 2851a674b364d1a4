"""Header of Prophesee `.dat` recordings: offset and number of records, sensor size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..problems import Problem, Problems
from .clock import truncated, without_events
from .invalid_events import MAX_SIDE
from .text_header import read_text_header

RECORD = 8  # bytes per event
EVENT_TYPES = (0x00, 0x0C)
OLD_SENSOR = (304, 240)  # width, height, where the header has none


@dataclass(frozen=True)
class Header:
    """`events` complete records from byte `offset`, which may be odd, in a file of `size` bytes."""

    offset: int
    events: int
    width: int
    height: int
    size: int

    @property
    def rest(self) -> int:
        """Bytes of a truncated last record."""
        return self.size - self.offset - RECORD * self.events

    def outside(self, address: np.ndarray) -> np.ndarray:
        """bool [N]: which of the uint32 addresses of records lie beyond the sensor."""
        return ((address & 0x3FFF) >= self.width) | ((address & 0x3FFF << 14) >= self.height << 14)


def read_header(path: str | Path, problems: Problems) -> Header | None:
    """The header of a file; None where it is unusable and `problems` collects. OSError when the file is not there.

    Fatal: no header, one truncated within a line or longer than `text_header.MAX_BYTES`, other event types, another
    record size, an invalid sensor size. Not fatal: a truncated last record, and a file without events: 0 bytes, or
    nothing after the header.
    """

    def fatal(kind: str, record: str, value: object, remedy: str) -> None:
        problems.add(Problem(kind, path, record, value, remedy, fatal=True))

    text = read_text_header(path)
    if isinstance(text, Problem):
        problems.add(text)
        return None
    fields, start, head, size = text
    if size == 0:
        problems.add(without_events(path, "the file has 0 bytes"))
        return Header(0, 0, *OLD_SENSOR, size)
    if start == 0:
        remedy = "A .dat starts with lines '% ...'; convert or copy the file again"
        fatal("no .dat header", "byte 0", f"starts with {head!r}", remedy)
        return None
    if head and head[0] not in EVENT_TYPES:
        remedy = "Only change-detection events 0x00 and 0x0C are read; export those from the recording"
        fatal("wrong event type", f"byte {start}", f"0x{head[0]:02X}", remedy)
        return None
    if len(head) == 2 and head[1] != RECORD:
        fatal("wrong record size", f"byte {start + 1}", head[1], "Records of 8 bytes are read; convert the file")
        return None
    sensor = {}
    for key, old in zip(("width", "height"), OLD_SENSOR, strict=True):
        side = fields.get(key, str(old) if not {"width", "height"} & fields.keys() else "not given")
        if not (side.isascii() and side.isdigit() and len(side) < 6 and 0 < int(side) <= MAX_SIDE):
            remedy = f"Give both Width and Height as 1 to {MAX_SIDE}, or neither"
            fatal("bad sensor size", f"header line {key!r}", side[:40], remedy)
            return None
        sensor[key] = int(side)
    offset = start + len(head)
    header = Header(offset, (size - offset) // RECORD, size=size, **sensor)
    if header.rest:
        problems.add(truncated(path, "record", header.events, header.rest, RECORD))
    if not header.events:
        problems.add(without_events(path))
    return header
