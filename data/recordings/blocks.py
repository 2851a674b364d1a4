"""Random access by a sparse index (`BlockReader`): opening a recording takes one pass, which stores the time and the
decoder state of each block.

The pass also checks the order of times and counts invalid events, so that later reads need only the blocks of a window.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from registry import UserError

from ..problems import Problem, Problems
from .clock import backwards, clamp, jitter, truncated, without_events
from .interface import EventReader, Events
from .invalid_events import InvalidEvents, inside, whole_below
from .span import Span


class Block(NamedTuple):
    """Decoded part of a file.

    events: as recorded, not validated: x, y and p may have any value and numeric type
    state:  of the decoder at its end
    lost:   number of event words before the first word with their time, row or column
    kinds:  int [16], number of words of each type, for formats of words
    """

    events: Events
    state: tuple[int, ...] = ()
    lost: int = 0
    kinds: np.ndarray | None = None


class BlockReader(EventReader):
    """Base class of formats that are decoded in blocks of `BLOCK` units (records or words).

    A subclass implements `_connect()`, which opens its memory map, and `_decode(start, stop, state)`. Its constructor
    calls `_build_index`, which raises UserError where time runs backwards by more than jitter, or more than 1 % of the
    events are clamped or invalid. Fewer are added to `problems`. `on` counts the ON events of the file.
    """

    BLOCK = 1 << 14
    WHOLE = True  # False: see `only_span`
    _ends = True  # whether `_source` includes the last unit; not always with `only_span`

    def __init__(self, path: str | Path, sensor_size: tuple[int, int] | None = None):
        self.path = Path(path)
        self.dropped = self.clamped = self.on = 0
        self._sensor_size = None if sensor_size is None else (int(sensor_size[0]), int(sensor_size[1]))
        self._size = self.path.stat().st_size
        self._handle: Any = None
        self._owner = 0  # the process that opened the handle

    @abstractmethod
    def _connect(self) -> Any:
        """Open the memory map or file handle, which `_decode` reads as `_source`."""

    @abstractmethod
    def _decode(self, start: int, stop: int, state: tuple[int, ...]) -> Block:
        """Decode the units start .. stop - 1, beginning with the decoder state `state`."""

    @property
    def _source(self) -> Any:
        # Before each read: reading a map of a file that was truncated meanwhile kills the process (SIGBUS).
        if self.path.stat().st_size != self._size:
            raise UserError(f"{self.path}: changed its size since it was opened. Open it again")
        if self._handle is None or self._owner != os.getpid():  # a handle is not shared with a forked worker
            self.close()
            self._handle, self._owner = self._connect(), os.getpid()
        return self._handle

    def _map(self, dtype: str, offset: int, count: int) -> np.ndarray:
        """`count` items of the file from byte `offset`, memory-mapped; an array if 0, since maps cannot be empty."""
        return np.memmap(self.path, dtype, "r", offset, (count,)) if count else np.empty(0, dtype)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None}

    def close(self) -> None:
        self._handle = None

    def __len__(self) -> int:
        return self._count

    @property
    def sensor_size(self) -> tuple[int, int] | None:
        return self._sensor_size

    @property
    def t_first(self) -> int:
        return self._t_first

    @property
    def t_last(self) -> int:
        return int(self._last[-1]) if self._count else 0

    def span(self, exact: bool = False) -> Span | None:
        return Span(self._t_first, self._t_last if not self.WHOLE else self.t_last) if self._count else None

    def read(self, t0_us: int, t1_us: int) -> Events:
        """Events with t0_us < t <= t1_us: two searches in the index, then the blocks in between are decoded."""
        low = int(np.searchsorted(self._last, t0_us, "right"))
        high = max(int(np.searchsorted(self._first, t1_us, "right")), low)
        state = self._states[low] if low < high else ()
        start, stop = low * self.BLOCK, min(high * self.BLOCK, self._units)
        if start >= stop:
            none = np.empty(0, np.uint16)
            return Events(np.empty(0, np.int64), none, none, np.empty(0, np.uint8))
        events = self._decode(start, stop, state).events
        t = clamp(events.t, self._before[low])[0] if self.clamped else events.t
        cut = slice(*np.searchsorted(t, (t0_us, t1_us), "right").tolist())
        events = Events(t[cut], events.x[cut], events.y[cut], events.p[cut])
        usable = inside(events, self._sensor_size) & whole_below(events.p, 2)
        if not usable.all():
            events = Events(*(getattr(events, name)[usable] for name in "txyp"))
        return Events(events.t, events.x.astype(np.uint16), events.y.astype(np.uint16), events.p.astype(np.uint8))

    def _whole(self, what: str, offset: int, size: int, problems: Problems) -> int:
        """Number of complete units of `size` bytes (`what`: record or word) after byte `offset`."""
        count, rest = divmod(self._size - offset, size)
        if rest:
            problems.add(truncated(self.path, what, count, rest, size))
            self.dropped += 1
        return count

    def _find_span(self, units: int, state: tuple[int, ...]) -> None:
        """Find the first event and, in formats without a decoder state, which decode from anywhere, the last one."""
        whence, self._t_last = state, None
        for start in range(0, units, self.BLOCK):
            block = self._decode(start, min(start + self.BLOCK, units), state)
            state = block.state
            if len(block.events):
                self._count, self._t_first = 1, int(block.events.t[0])
                break
        if self._count and whence == () and self._ends:
            self._t_last = int(self._decode(max(units - self.BLOCK, 0), units, ()).events.t.max())

    def _build_index(self, units: int, problems: Problems, state: tuple[int, ...] = ()) -> None:
        self._units, self._count, self._t_first = units, 0, 0
        if not self.WHOLE:
            self._find_span(units, state)
            return
        self._states: list[tuple[int, ...]] = []
        self._before: list[int | None] = []  # the latest time before each block
        first, last = [], []
        latest: int | None = None
        lost, kinds = 0, np.zeros(16, np.int64)
        invalid = InvalidEvents(self._sensor_size)
        early = ""  # the first event clamped
        for start in range(0, units, self.BLOCK):
            self._states.append(state)
            self._before.append(latest)
            block = self._decode(start, min(start + self.BLOCK, units), state)
            events, state = block.events, block.state
            lost += block.lost
            kinds += 0 if block.kinds is None else block.kinds
            t, moved, far = clamp(events.t, latest)
            if far is not None:
                raise UserError(
                    str(backwards(self.path, f"event {self._count + far}", int(events.t[far]), int(t[far])))
                )
            if moved is not None:
                early = early or f"event {self._count + int(moved.argmax())}"
                self.clamped += int(moved.sum())
            invalid.add(self._count, events)
            if len(t):
                self._t_first = int(t[0]) if latest is None else self._t_first
                latest = int(t[-1])
            self._count += len(t)
            first.append(int(t[0]) if len(t) else latest)
            last.append(latest)
        # Blocks before the first event are empty: any time up to the first event's keeps the lists sorted.
        self._first = np.array([self._t_first if t is None else t for t in first], np.int64)
        self._last = np.array([self._t_first if t is None else t for t in last], np.int64)
        self.dropped += lost + invalid.outside + invalid.polarity
        self.on = invalid.on
        found = [*self._odd_words(lost, kinds), *invalid.problems(self.path, self._count)]
        if self.clamped:
            found.append(jitter(self.path, early, self.clamped, self._count))
        if not self._count:
            found.append(without_events(self.path))
        for problem in found:
            if problem.fatal:  # also if `problems` collects: the reader would be unusable
                raise UserError(str(problem))
            problems.add(problem)

    def _odd_words(self, lost: int, kinds: np.ndarray) -> list[Problem]:
        """Problems of the words of the file; `lost` and `kinds` as in `Block`."""
        return []


def only_span(reader: type[BlockReader]) -> type[BlockReader]:
    """The class `reader` without the pass over the file, for `span` only: it decodes the beginning, and the end if the
    format allows it."""
    return type(reader.__name__, (reader,), {"WHOLE": False})
