"""Audit whole recordings: read every event once and report all problems (`audit_events`, used by `data.check`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..problems import Problem, Problems
from .blocks import BlockReader
from .clock import HALF, JITTER_US, WRAP, backwards, clamp, jitter, outside_sensor, unclear, unwrap
from .dat_header import read_header
from .reader import is_dat, open_events
from .scan import Scan
from .unpacking import MAX_UNPACKED_MB

_CHUNK = 1 << 16  # records read at once, small enough for the CPU cache
_COUNTS = ("events", "width", "height", "first_us", "last_us", "on", "wraps", "backwards", "clamped", "outside")


@dataclass(frozen=True)
class Tally:
    """Summary of a recording: number of events, times [us] of the first and the last one (0 without events), number of
    ON events, `Scan.silences`."""

    events: int
    first_us: int
    last_us: int
    on: int
    silences: tuple[tuple[int, int], ...] = field(default=(), compare=False)

    @property
    def seconds(self) -> float:
        return (self.last_us - self.first_us) / 1e6


def audit_events(
    path: str | Path,
    problems: Problems,
    sensor_size: tuple[int, int] | None = None,
    silence_us: int | None = None,
    max_unpacked_mb: int = MAX_UNPACKED_MB,
) -> Tally | None:
    """Read every event of a recording of any format and add its problems to `problems`: those of opening and reading
    it, fatal where they would stop a training, and duplicate events. OSError when the file is not there.

    silence_us: minimum length of the silences in the result; None: they are not searched
    max_unpacked_mb: as in `open_events`

    Returns its `Tally`; None where a problem would stop a training.
    """
    before, scan = len(problems.items), Scan(silence_us)
    try:
        if is_dat(path):
            found = audit_dat(path, problems, scan)
            if any(problem.fatal for problem in problems.items[before:]):
                return None
            events, first_us, last_us, on = (found[name] for name in ("events", "first_us", "last_us", "on"))
        else:
            reader = open_events(path, sensor_size, problems, max_unpacked_mb=max_unpacked_mb)  # reads all of it
            assert isinstance(reader, BlockReader)
            _scan(reader, scan)
            reader.close()
            events, first_us, last_us, on = len(reader), reader.t_first, reader.t_last, reader.on
        if repeated := scan.problem(path, events):
            problems.add(repeated)
        return Tally(events, first_us, last_us, on, tuple(scan.silences))
    except ValueError as error:
        if not problems.collect:
            raise
        what = str(error).removeprefix(f"{path}: ")
        problems.add(Problem("unreadable recording", path, "", what, "It cannot be trained on", fatal=True))
        return None


def _scan(reader: BlockReader, scan: Scan) -> None:
    pieces = -(-len(reader) // _CHUNK)
    start, length = reader.t_first - 1, reader.t_last - reader.t_first + 1
    edges = [start + length * k // max(pieces, 1) for k in range(pieces + 1)]
    for t0, t1 in zip(edges, edges[1:], strict=False):
        events = reader.read(t0, t1)
        x, y, p = (column.astype(np.int64) for column in (events.x, events.y, events.p))
        scan.add(events.t, x | y << 14 | p << 28)


def audit_dat(path: str | Path, problems: Problems, scan: Scan | None = None) -> dict[str, int]:
    """`audit_events` for a `.dat`, with `scan` for its events. Returns `events`, `width`, `height`, `first_us`,
    `last_us` and the counts `on`, `wraps`, `backwards` (times too far behind an earlier one), `clamped` (slightly
    behind) and `outside` the sensor."""
    found = dict.fromkeys(_COUNTS, 0)
    header = read_header(path, problems)
    if header is None:
        return found
    found |= {"events": header.events, "width": header.width, "height": header.height}
    times = _Times()
    odd: tuple[str, int, int] | None = None
    with open(path, "rb") as file:
        file.seek(header.offset)
        for start in range(0, header.events, _CHUNK):
            raw = np.fromfile(file, "<u4", 2 * min(_CHUNK, header.events - start)).reshape(-1, 2)
            t = times.add(start, np.ascontiguousarray(raw[:, 0]))
            address = np.ascontiguousarray(raw[:, 1])
            if scan is not None:
                scan.add(t, address)
            found["on"] += int(np.count_nonzero(address & 1 << 28))
            outside = header.outside(address)
            if count := int(np.count_nonzero(outside)):
                place = int(address[i := int(outside.argmax())])
                odd = odd or (f"record {start + i}", place & 0x3FFF, place >> 14 & 0x3FFF)
                found["outside"] += count
    found |= {"first_us": times.first, "last_us": times.latest, "wraps": (times.time - times.raw) // WRAP}
    found |= {"backwards": times.backwards, "clamped": times.clamped}
    if times.far:
        record, time, latest = times.far
        problems.add(backwards(path, f"record {record}", time, latest, times.backwards))
    if times.gap and times.wrap:
        problems.add(unclear(path, times.gap, times.wrap))
    if times.clamped:
        problems.add(jitter(path, f"record {times.early}", times.clamped, header.events))
    if odd:
        sensor = header.height, header.width
        problems.add(outside_sensor(path, *odd, sensor, found["outside"], header.events))
    return found


class _Times:
    """Checks the times of a file, chunk by chunk. Record numbers are 0 for "none": the first record cannot be wrong."""

    def __init__(self) -> None:
        self.first = self.latest = 0  # times of the first and of the latest event
        self.raw = self.time = 0  # of the last record, as recorded and unwrapped
        self.clamped = self.early = 0  # how many, and the first record
        self.backwards = 0
        self.far: tuple[int, int, int] | None = None  # the first record of those: it, its time, the latest before
        self.gap = self.wrap = 0  # first record at which the clock jumped, or fell, by over half its range

    def add(self, start: int, raw: np.ndarray) -> np.ndarray:
        """Check a chunk from record `start` on; returns its int64 times, unwrapped and clamped."""
        if start == 0:
            self.first = self.latest = self.raw = self.time = int(raw[0])
        end = int(raw[-1])
        simple = self.time == self.latest and self.raw <= int(raw[0]) and end - self.raw <= HALF
        if simple and (raw[1:] >= raw[:-1]).all():
            t = raw.astype(np.int64) + (self.time - self.raw)
            self.latest = self.time = self.time + end - self.raw
            self.raw = end
            return t
        t, wraps, gaps = unwrap(raw, self.raw, self.time)
        self.wrap = self.wrap or (start + int(wraps.argmax()) if wraps.any() else 0)
        self.gap = self.gap or (start + int(gaps.argmax()) if gaps.any() else 0)
        top, moved, _ = clamp(t, self.latest)
        if moved is not None:
            far = top - t > JITTER_US
            if far.any() and not self.far:
                i = int(far.argmax())
                self.far = start + i, int(t[i]), int(top[i])
            self.backwards += int(far.sum())
            if (near := moved & ~far).any():
                self.early = self.early or start + int(near.argmax())
                self.clamped += int(near.sum())
        self.raw, self.time, self.latest = end, int(t[-1]), int(top[-1])
        return top
