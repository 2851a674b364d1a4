"""Reader of Prophesee `.dat` recordings (`DatReader`): any time window in O(log n) from a memory map.

The file: ASCII header lines that start with `% `, then one byte event type (0x00 or 0x0C) and one byte record size (8),
then little-endian records of u32 time [us] and u32 address (x: bits 0-13, y: bits 14-27, polarity: bit 28). Old files
have no sensor size: it is the ATIS of Gen1, 304 x 240. Times wrap at 2^32 us (71.6 minutes); they are unwrapped here.
"""

from __future__ import annotations

import logging
import mmap
import struct
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Any

import numpy as np

from registry import UserError

from ..problems import Problem, Problems
from .clock import FALL, HALF, JITTER_US, WRAP, backwards, clamp, jitter, outside_sensor, too_many, unclear, unwrap
from .dat_header import RECORD, read_header
from .interface import EventReader, Events, LoggedProblems
from .span import Span

log = logging.getLogger(__name__)

_TIME = struct.Struct("<I")
_THREE_TIMES = struct.Struct("<I4xI4xI")
_CHUNK = 1 << 16  # records counted at once
_MARKS = 64  # records sampled at the first read, as brackets of later searches
_MARGIN = 64  # records read before and after a window, to find damage that misled its search


class DatReader(EventReader):
    """Random access to one recording. The memory map is opened at the first use, and not pickled.

    width, height:    of the sensor
    dropped, clamped: counts over the reads so far, since opening does not read the file

    Binary search over the times, with `_marks` as brackets:

        marks    0 ............ k-1 ......... k ............ n-1     sampled records, their unwrapped times increase
        search                   low -> middle <- high               times[low] <= time < times[high]
        window          low - _MARGIN [t0 ..... t1] high + _MARGIN   searched for t0 and t1, JITTER_US farther apart

    Each record that a search reads is checked against its neighbours (`_probe`) and against the bracket (`_search`);
    UserError names the one that is out of order. Damage elsewhere does not affect a window.
    """

    def __init__(self, path: str | Path, problems: Problems | None = None):
        self.path = Path(path)
        header = read_header(path, LoggedProblems() if problems is None else problems)
        if header is None:
            raise UserError(f"{path}: its header is unusable, as was reported")
        self._header, self._count = header, header.events
        self.width, self.height = header.width, header.height
        self.dropped, self.clamped = int(header.rest > 0), 0
        self._outside = 0  # of those dropped
        self._outside_in_all: int | None = None
        self._map: mmap.mmap | None = None
        self._found: tuple[list[int], list[int]] | None = None

    def __len__(self) -> int:
        return self._count

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}

    @property
    def t_first(self) -> int:
        self._check_size()
        return self._marks()[1][0] if self._count else 0

    @property
    def t_last(self) -> int:
        self._check_size()
        if not self._count:
            return 0
        return int(self._read_times(self._search(self._marks()[1][-1] - JITTER_US - 1), self._count)[0][-1])

    def span(self, exact: bool = False) -> Span | None:
        if not self._count:
            return None
        self._check_size()
        buffer = self._open()
        first = self._probe(0)
        (last,) = _TIME.unpack_from(buffer, self._header.offset + RECORD * (self._count - 1))
        return Span(first, self.t_last if exact or last < first else last)

    @property
    def sensor_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    def read(self, t0_us: int, t1_us: int) -> Events:
        """Events with t0_us < t <= t1_us. UserError where times there run backwards by more than jitter, or more than
        1 % of the recording lies outside the sensor."""
        self._check_size()
        if not self._count or t1_us <= t0_us:
            return _decode(np.empty(0, np.int64), np.empty(0, "<u4"))
        # Recorded times lie at most JITTER_US below their running maximum, so searches for t0 and t1 with that margin
        # bracket the window.
        low = max(self._search(t0_us - JITTER_US) - _MARGIN, 0)
        high = min(self._search(t1_us + JITTER_US) + _MARGIN, self._count)
        if low >= high:
            raise UserError(str(self._out_of_order(high, "the window ends here before it begins")))
        t, moved, address = self._read_times(low, high)
        cut = slice(*np.searchsorted(t, (t0_us, t1_us), "right").tolist())
        events = _decode(t[cut], address[cut])
        if moved is not None and (count := int(np.count_nonzero(moved[cut]))):
            first = low + cut.start + int(moved[cut].argmax())
            self._report(jitter(self.path, f"record {first}", count, self._count), self.clamped)
            self.clamped += count
        if not len(events) or (events.x.max() < self.width and events.y.max() < self.height):
            return events
        inside = (events.x < self.width) & (events.y < self.height)
        i, outside = int(np.argmin(inside)), int(len(events) - inside.sum())
        x, y, record = int(events.x[i]), int(events.y[i]), f"record {low + cut.start + i}"
        # The limit is 1 % of the whole recording, as in all formats, so count them all where the window exceeds it.
        share = (outside, len(events)) if not too_many(outside, len(events)) else (self._all_outside(), self._count)
        self._report(outside_sensor(self.path, record, x, y, self.sensor_size, *share), self._outside)
        self._outside += outside
        self.dropped += outside
        return Events(events.t[inside], events.x[inside], events.y[inside], events.p[inside])

    def close(self) -> None:
        """Close the memory map; the next read reopens it."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def _report(self, problem: Problem, said: int) -> None:
        if problem.fatal:
            raise UserError(str(problem))
        if not said:
            log.warning("%s", problem)

    def _all_outside(self) -> int:
        """Number of events of the whole recording outside the sensor, cached."""
        if self._outside_in_all is None:
            addresses = np.frombuffer(self._open(), "<u4", 2 * self._count, self._header.offset)[1::2]
            pieces = (addresses[start : start + _CHUNK] for start in range(0, self._count, _CHUNK))
            self._outside_in_all = sum(int(np.count_nonzero(self._header.outside(piece))) for piece in pieces)
        return self._outside_in_all

    def _check_size(self) -> None:
        """UserError where the file was truncated since it was mapped; reading it would kill the process (SIGBUS)."""
        if self._map is not None and self._map.size() != self._header.size:
            raise UserError(f"{self.path}: changed its size since it was opened. Build the dataset again")

    def _open(self) -> mmap.mmap:
        if self._map is None:
            with open(self.path, "rb") as file:
                if file.seek(0, 2) != self._header.size:
                    raise UserError(f"{self.path}: changed its size since it was opened. Build the dataset again")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def _read_times(self, low: int, high: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """(clamped times of the records low .. high - 1; bool [N] which were clamped, or None; addresses)."""
        marks, times = self._marks()
        buffer = self._open()
        records = np.frombuffer(buffer, "<u4", 2 * (high - low), self._header.offset + RECORD * low).reshape(-1, 2)
        # Contiguous columns: the following operations take a third of the time.
        raw, address = np.ascontiguousarray(records[:, 0]), np.ascontiguousarray(records[:, 1])
        base = times[bisect_right(marks, low) - 1] - JITTER_US
        first = base + (int(raw[0]) - base) % WRAP
        if (raw[1:] >= raw[:-1]).all():
            t, moved = raw.astype(np.int64), None
            t += first - t[0]
        else:
            t, wraps, gaps = unwrap(raw, int(raw[0]), first)
            if wraps.any() and gaps.any():
                raise UserError(str(unclear(self.path, low + int(gaps.argmax()), low + int(wraps.argmax()))))
            recorded = t
            t, moved, far = clamp(recorded)
            if far is not None:
                raise UserError(str(backwards(self.path, f"record {low + far}", recorded[far], t[far])))
        latest = times[bisect_left(marks, high - 1)] + JITTER_US
        if t[-1] > latest:
            i = int(np.searchsorted(t, latest, "right"))
            raise UserError(str(self._out_of_order(low + i, f"{t[i]} us, far later than the records after it")))
        return t, moved, address

    def _search(self, time: int) -> int:
        """Binary search: index of a record later than `time` whose predecessor is not."""
        marks, times = self._marks()
        k = bisect_right(times, time)
        if not 0 < k < len(marks):
            return self._count if k else 0
        (low, high), (earliest, latest) = marks[k - 1 : k + 1], times[k - 1 : k + 1]
        base = earliest - JITTER_US
        while high - low > 1:
            middle = (low + high) // 2
            t = base + (self._probe(middle) - base) % WRAP
            if not earliest - JITTER_US <= t <= latest + JITTER_US:
                what = f"{t} us, between records of {earliest} us and {latest} us"
                raise UserError(str(self._out_of_order(middle, what)))
            if t <= time:
                low, earliest = middle, t
            else:
                high, latest = middle, t
        return high

    def _marks(self) -> tuple[list[int], list[int]]:
        """(indices of sampled records including the first and the last, their unwrapped times). Intervals are bisected
        until the clock rises by less than half its range in each; they are assumed less than 71 minutes apart."""
        self._open()
        if self._found is not None:
            return self._found
        ahead = np.linspace(0, self._count - 1, min(_MARKS, self._count)).astype(int).tolist()[:0:-1]
        marks, raw = [0], self._probe(0)
        times, top = [raw], raw
        wrap = gap = 0
        while ahead:
            before, here = marks[-1], ahead[-1]
            step = self._probe(here) - raw
            if here - before > 1 and not -JITTER_US <= step <= HALF:
                ahead.append((before + here) // 2)
                continue
            raw += step
            if step < -FALL:
                step, wrap = step + WRAP, here
            elif step > WRAP - JITTER_US:
                step -= WRAP
            elif step > HALF:
                gap = here
            if wrap and gap:
                raise UserError(str(unclear(self.path, gap, wrap)))
            marks.append(ahead.pop())
            times.append(times[-1] + step)
            top = max(top, times[-1])
            if times[-1] < top - JITTER_US:
                raise UserError(str(backwards(self.path, f"record {here}", times[-1], top)))
        self._found = marks, times
        return self._found

    def _probe(self, index: int) -> int:
        """Recorded time of one record. UserError where it contradicts those of its neighbours."""
        assert self._map is not None
        at = self._header.offset + RECORD * index
        if 0 < index < self._count - 1:
            a, b, c = _THREE_TIMES.unpack_from(self._map, at - RECORD)
            if a - JITTER_US <= b <= c + JITTER_US and abs(c - a) <= HALF:
                return b
        first = max(index - 1, 0)
        near = range(first, min(index + 2, self._count))
        t = [_TIME.unpack_from(self._map, self._header.offset + RECORD * k)[0] for k in near]
        steps = [b - a for a, b in zip(t, t[1:], strict=False)]
        for k, step in enumerate(steps, 1):
            if -FALL <= step < -JITTER_US:
                raise UserError(str(backwards(self.path, f"record {first + k}", t[k], t[k - 1])))
        if len(steps) == 2 and min(steps) < -FALL and HALF < max(steps) <= WRAP - JITTER_US:
            raise UserError(str(self._out_of_order(index, f"{t[1]} us, between records of {t[0]} us and {t[2]} us")))
        return t[index - first]

    def _out_of_order(self, index: int, what: str) -> Problem:
        return Problem("time out of order", self.path, f"record {index}", what, "Copy the recording again", fatal=True)


def open_dat(path: str | Path, problems: Problems | None = None) -> DatReader:
    """Open a recording; reads only its header. UserError for an invalid header.

    A truncated last record and a file without events are added to `problems`, or logged if None.
    """
    return DatReader(path, problems)


def _decode(t: np.ndarray, address: np.ndarray) -> Events:
    return Events(
        t=t,
        x=address.astype(np.uint16) & np.uint16(0x3FFF),
        y=(address >> 14).astype(np.uint16) & np.uint16(0x3FFF),
        p=(address >> 28).astype(np.uint8) & np.uint8(1),
    )
