"""Prophesee `.dat` recordings: any time window in O(log n) from a memory map, a full audit, and a writer.

The file: ASCII header lines that start with `% `, then one byte event type (0x00 or 0x0C) and one byte record size (8),
then little-endian records of u32 time [us] and u32 address (x: bits 0-13, y: bits 14-27, polarity: bit 28). Old files
name no sensor size: it is the ATIS of Gen1, 304 x 240. Times wrap at 2^32 us (71.6 minutes); they are unwrapped here.
"""

from __future__ import annotations

import logging
import mmap
import struct
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..problems import Problem, Problems
from .interface import EventReader, Events

log = logging.getLogger(__name__)

RECORD = 8  # bytes per event
EVENT_TYPES = (0x00, 0x0C)
OLD_SENSOR = (304, 240)  # width, height where the header names none
WRAP = 1 << 32
_TIME = struct.Struct("<I")
_PROBES = 64  # places looked at for a wrap of the clock


@dataclass(frozen=True)
class Header:
    """Where the records of a file lie and what sensor they come from."""

    offset: int  # of the first record; may be odd
    events: int
    width: int
    height: int


def read_header(path: str | Path, problems: Problems) -> Header | None:
    """The header of a file; None where it is unusable and `problems` collects. OSError when the file is not there."""

    def fatal(kind: str, record: str, value: object, remedy: str) -> None:
        problems.add(Problem(kind, path, record, value, remedy, fatal=True))

    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        fields: dict[str, str] = {}
        start = 0
        while (head := file.read(2)) == b"% ":
            line = file.readline(4096)
            if not line.endswith(b"\n"):
                fatal("truncated header", f"byte {start}", line[:40], "Copy the file again")
                return None
            key, _, value = line.decode("ascii", "replace").strip().partition(" ")
            fields[key.lower()] = value.strip()
            start = file.tell()
    if start == 0:
        what = "the file is empty" if size == 0 else f"starts with {head!r}"
        fatal("no .dat header", "byte 0", what, "A .dat starts with lines '% ...'; convert or copy the file again")
        return None
    if len(head) < 2:
        fatal("truncated header", f"byte {start}", f"{size} bytes in all", "Copy the file again")
        return None
    kind, record_size = head
    if kind not in EVENT_TYPES:
        remedy = "Only change-detection events 0x00 and 0x0C are read; export those from the recording"
        fatal("wrong event type", f"byte {start}", f"0x{kind:02X}", remedy)
        return None
    if record_size != RECORD:
        fatal("wrong record size", f"byte {start + 1}", record_size, "Records of 8 bytes are read; convert the file")
        return None
    sensor = []
    for key, old in zip(("width", "height"), OLD_SENSOR, strict=True):
        text = fields.get(key, str(old) if not {"width", "height"} & fields.keys() else "not given")
        if not text.isdigit() or not 0 < int(text) <= 1 << 14:
            fatal(
                "bad sensor size", f"header line {key!r}", text, "Give both Width and Height as 1 to 16384, or neither"
            )
            return None
        sensor.append(int(text))
    count, rest = divmod(size - start - 2, RECORD)
    if rest:
        remedy = f"Copy the file again, or drop that record with `truncate -s -{rest}`"
        fatal("truncated last record", f"record {count}", f"{rest} of {RECORD} bytes", remedy)
    return Header(start + 2, count, *sensor)


class DatReader(EventReader):
    """Random access to one recording. The memory map is opened at the first use, and not pickled.

    `width`, `height`: of the sensor. `dropped`: events outside it that reads have left out so far.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        header = read_header(path, Problems())
        assert header is not None  # a plain `Problems` raises
        self._offset, self._count = header.offset, header.events
        self.width, self.height = header.width, header.height
        self.dropped = 0
        self._map: mmap.mmap | None = None
        self._wraps: list[int] | None = None  # records before which the 32-bit clock restarted

    def __len__(self) -> int:
        return self._count

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}

    @property
    def first_us(self) -> int:
        """Time of the first event; 0 in a recording without events."""
        return self._time(0) if self._count else 0

    @property
    def last_us(self) -> int:
        """Time of the last event; 0 in a recording without events."""
        return self._time(self._count - 1) if self._count else 0

    @property
    def sensor_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @property
    def t_first(self) -> int:
        """`first_us`, as every `EventReader` names it."""
        return self.first_us

    @property
    def t_last(self) -> int:
        """`last_us`, as every `EventReader` names it."""
        return self.last_us

    def read(self, t0_us: int, t1_us: int) -> Events:
        """Events with t0_us < t <= t1_us. ValueError where times in that window run backwards."""
        low = bisect_right(range(self._count), t0_us, key=self._time)
        high = bisect_right(range(self._count), t1_us, lo=low, key=self._time)
        if low == high:
            return decode(np.empty((0, 2), "<u4"))
        raw = np.frombuffer(self._open(), "<u4", 2 * (high - low), self._offset + RECORD * low).reshape(-1, 2)
        events = decode(raw)
        wraps = self._wraps or []
        events.t[:] += WRAP * bisect_right(wraps, low)
        for wrap in wraps:
            if low < wrap < high:
                events.t[wrap - low :] += WRAP
        if (backwards := np.diff(events.t) < 0).any():
            i = int(backwards.argmax())
            raise ValueError(str(_backwards(self.path, low + i + 1, events.t[i], events.t[i + 1])))
        inside = (events.x < self.width) & (events.y < self.height)
        if inside.all():
            return events
        outside = int(len(events) - inside.sum())
        if outside > max(0.01 * len(events), 10):
            i = int(np.argmin(inside))
            raise ValueError(
                f"{self.path}: record {low + i}: x={events.x[i]}, y={events.y[i]} is outside the sensor of "
                f"{self.width}x{self.height}, with {outside} of {len(events)} events. Correct Width and Height"
            )
        if not self.dropped:
            sensor = f"{self.width}x{self.height}"
            log.warning("%s: dropping %d events outside the %s sensor, and any later", self.path, outside, sensor)
        self.dropped += outside
        return Events(events.t[inside], events.x[inside], events.y[inside], events.p[inside])

    def close(self) -> None:
        """Give the memory map back; the next read opens it again."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def _open(self) -> mmap.mmap:
        if self._map is None:
            with open(self.path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if len(self._map) != self._offset + RECORD * self._count:
                raise ValueError(f"{self.path}: changed its size since it was opened. Build the dataset again")
        if self._wraps is None:
            self._wraps = self._find_wraps()
        return self._map

    def _raw_time(self, index: int) -> int:
        assert self._map is not None
        return _TIME.unpack_from(self._map, self._offset + RECORD * index)[0]

    def _time(self, index: int) -> int:
        if self._map is None:
            self._open()
        raw = self._raw_time(index)
        return raw + WRAP * bisect_right(self._wraps, index) if self._wraps else raw

    def _find_wraps(self) -> list[int]:
        """Between two probes less than 71 minutes apart the raw time falls only if the clock wrapped there."""
        wraps = []
        probes = np.linspace(0, self._count - 1, min(_PROBES, self._count)).astype(int).tolist()
        for a, b in zip(probes, probes[1:], strict=False):
            base = self._raw_time(a)
            if self._raw_time(b) < base:
                i = bisect_right(range(a, b), False, key=lambda k: self._raw_time(k) < base) + a
                before, after = self._raw_time(i - 1), self._raw_time(i)
                if before - after <= WRAP // 2:
                    raise ValueError(str(_backwards(self.path, i, before, after)))
                wraps.append(i)
        return wraps


def open_dat(path: str | Path) -> DatReader:
    """Open a recording: reads its header only. ValueError names what is wrong with the file, where, and the remedy."""
    return DatReader(path)


def decode(raw: np.ndarray) -> Events:
    """uint32 records [N, 2] -> events, their times not unwrapped."""
    address = raw[:, 1]
    return Events(
        t=raw[:, 0].astype(np.int64),
        x=(address & 0x3FFF).astype(np.uint16),
        y=((address >> 14) & 0x3FFF).astype(np.uint16),
        p=((address >> 28) & 1).astype(np.uint8),
    )


def audit_dat(path: str | Path, problems: Problems) -> dict[str, int]:
    """Read every event once and add what is wrong to `problems`: times that run backwards (fatal), events outside the
    sensor (fatal above 1 %), an unusable or truncated file (fatal).

    Returns the counts `events`, `width`, `height`, `first_us`, `last_us`, `on`, `wraps`, `backwards`, `outside`.
    """
    found = dict.fromkeys(
        ("events", "width", "height", "first_us", "last_us", "on", "wraps", "backwards", "outside"), 0
    )
    header = read_header(path, problems)
    if header is None:
        return found
    found |= {"events": header.events, "width": header.width, "height": header.height}
    first_backwards = first_outside = None
    base, last = 0, None  # `last`: raw time of the event before this chunk
    for start in range(0, header.events, chunk := 1 << 20):
        count = min(chunk, header.events - start)
        raw = np.fromfile(path, "<u4", 2 * count, offset=header.offset + RECORD * start).reshape(-1, 2)
        events = decode(raw)
        if last is None:
            found["first_us"] = last = int(events.t[0])
        steps = np.diff(events.t, prepend=last)
        wraps = int((steps < -WRAP // 2).sum())
        backwards = (steps < 0) & (steps >= -WRAP // 2)
        if first_backwards is None and backwards.any():
            i = int(backwards.argmax())
            first_backwards = start + i, base + int(events.t[i] - steps[i]), base + int(events.t[i])
        outside = (events.x >= header.width) | (events.y >= header.height)
        if first_outside is None and outside.any():
            i = int(outside.argmax())
            first_outside = start + i, int(events.x[i]), int(events.y[i])
        base, last = base + WRAP * wraps, int(events.t[-1])
        found["wraps"] += wraps
        found["backwards"] += int(backwards.sum())
        found["outside"] += int(outside.sum())
        found["on"] += int(events.p.sum())
        found["last_us"] = base + last
    if first_backwards:
        problems.add(_backwards(path, *first_backwards, found["backwards"]))
    if first_outside:
        i, x, y = first_outside
        value = f"x={x}, y={y} on {header.width}x{header.height}; {found['outside']} of {header.events} events"
        remedy = "They are dropped when read; if they are many, correct Width and Height in the header"
        fatal = found["outside"] > 0.01 * header.events
        problems.add(Problem("events outside the sensor", path, f"record {i}", value, remedy, fatal))
    return found


def _backwards(path: str | Path, index: int, before: int, after: int, count: int = 1) -> Problem:
    value = f"{after} us after {before} us" + (f"; {count} such records" if count > 1 else "")
    remedy = "Sort the recording by time, or copy it again"
    return Problem("time runs backwards", path, f"record {index}", value, remedy, fatal=True)


def write_dat(
    path: str | Path, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, width: int, height: int
) -> None:
    """Write events ([N] each, t in us and sorted) as a recording of a `width` x `height` sensor."""
    t, x, y, p = (np.asarray(a) for a in (t, x, y, p))
    if not len(t) == len(x) == len(y) == len(p):
        raise ValueError(f"{path}: t, x, y, p have {len(t)}, {len(x)}, {len(y)}, {len(p)} entries. Give one per event")
    for name, values, limit in (("t", t, 1 << 62), ("x", x, width), ("y", y, height), ("p", p, 2)):
        if (bad := (values < 0) | (values >= limit)).any():
            i = int(bad.argmax())
            raise ValueError(f"{path}: record {i}: {name} = {values[i]} is outside 0..{limit - 1}. Drop that event")
    t = t.astype(np.int64)
    if (backwards := np.diff(t) < 0).any():
        i = int(backwards.argmax()) + 1
        raise ValueError(str(_backwards(path, i, t[i - 1], t[i])))
    raw = np.empty((len(t), 2), "<u4")
    raw[:, 0] = t & (WRAP - 1)
    raw[:, 1] = x.astype(np.uint32) | y.astype(np.uint32) << 14 | p.astype(np.uint32) << 28
    header = f"% Data file containing CD events.\n% Version 2\n% Height {height}\n% Width {width}\n"
    with open(path, "wb") as file:
        file.write(header.encode("ascii") + bytes((EVENT_TYPES[1], RECORD)))
        raw.tofile(file)
