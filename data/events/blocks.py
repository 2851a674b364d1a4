"""Random access by a sparse index: one pass when a recording is opened notes the time and decoder state of each block.

The pass also checks that time never runs backwards and counts what is not usable, so a window read later is right
without looking at the rest of the file.
"""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from .interface import EventReader, Events

log = logging.getLogger(__name__)

TOLERATED = 0.01  # share of a file that may be unusable: dropped and counted. Above, it is an error


class BlockReader(EventReader):
    """Base of the formats that are decoded in blocks of `BLOCK` units (records or words).

    A format gives `_connect()`, which opens its memory map, and `_decode(start, stop, state)`. Its constructor calls
    `_build_index`, which raises ValueError where time runs backwards or more than 1 % is unusable.
    """

    BLOCK = 1 << 14

    def __init__(self, path: str | Path, sensor_size: tuple[int, int] | None = None):
        self.path = Path(path)
        self.dropped = 0
        self._sensor_size = None if sensor_size is None else (int(sensor_size[0]), int(sensor_size[1]))
        self._size = self.path.stat().st_size
        self._handle: Any = None
        self._owner = 0  # the process that opened the handle

    @abstractmethod
    def _connect(self) -> Any:
        """The memory map or file handle that `_decode` finds in `_source`."""

    @abstractmethod
    def _decode(self, start: int, stop: int, state: tuple[int, ...]) -> tuple[Events, tuple[int, ...], int]:
        """Events of the units start .. stop - 1, the decoder's state after them, and how many units were unusable."""

    @property
    def _source(self) -> Any:
        if self._handle is None or self._owner != os.getpid():  # a handle is not shared with a forked worker
            if self.path.stat().st_size != self._size:
                raise ValueError(f"{self.path}: changed its size since it was opened. Open it again")
            self.close()
            self._handle, self._owner = self._connect(), os.getpid()
        return self._handle

    def _map(self, dtype: str, offset: int, count: int) -> np.ndarray:
        """`count` items of the file from byte `offset`, memory-mapped; an empty map is not allowed, so an array."""
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

    def read(self, t0_us: int, t1_us: int) -> Events:
        """Events with t0_us < t <= t1_us: two searches in the index, then the blocks in between are decoded."""
        low = int(np.searchsorted(self._last, t0_us, "right"))
        high = max(int(np.searchsorted(self._first, t1_us, "right")), low)
        state = self._states[low] if low < high else ()
        start, stop = low * self.BLOCK, min(high * self.BLOCK, self._units)
        if start >= stop:
            none = np.empty(0, np.uint16)
            return Events(np.empty(0, np.int64), none, none, np.empty(0, np.uint8))
        events, _, _ = self._decode(start, stop, state)
        cut = slice(*np.searchsorted(events.t, (t0_us, t1_us), "right").tolist())
        events = Events(events.t[cut], events.x[cut], events.y[cut], events.p[cut])
        inside = self._inside(events)
        return events if inside.all() else Events(*(getattr(events, name)[inside] for name in "txyp"))

    def _inside(self, events: Events) -> np.ndarray:
        if self._sensor_size is None:
            return np.ones(len(events), bool)
        height, width = self._sensor_size
        return (events.x < width) & (events.y < height)

    def _build_index(self, units: int, state: tuple[int, ...] = ()) -> None:
        self._units, self._count, self._t_first = units, 0, 0
        self._states: list[tuple[int, ...]] = []
        first, last = [], []
        latest: int | None = None
        outside = unusable = 0
        where = ""
        for start in range(0, units, self.BLOCK):
            self._states.append(state)
            events, state, lost = self._decode(start, min(start + self.BLOCK, units), state)
            unusable += lost
            if len(events):
                steps = np.diff(events.t, prepend=events.t[0] if latest is None else latest)
                if (backwards := steps < 0).any():
                    i = int(backwards.argmax())
                    raise ValueError(
                        f"{self.path}: event {self._count + i}: time runs backwards: {events.t[i]} us after "
                        f"{events.t[i] - steps[i]} us. Sort the recording by time, or copy it again"
                    )
                inside = self._inside(events)
                if not inside.all():
                    i = int(np.argmin(inside))
                    where = where or f"event {self._count + i}: x={events.x[i]}, y={events.y[i]}"
                    outside += int(len(events) - inside.sum())
                if latest is None:
                    self._t_first = int(events.t[0])
                latest = int(events.t[-1])
            self._count += len(events)
            first.append(int(events.t[0]) if len(events) else latest)
            last.append(latest)
        # Blocks before the first event hold nothing: any time up to the first event's keeps the lists sorted.
        self._first = np.array([self._t_first if t is None else t for t in first], np.int64)
        self._last = np.array([self._t_first if t is None else t for t in last], np.int64)
        if unusable > max(TOLERATED * units, 10):
            raise ValueError(
                f"{self.path}: {unusable} of {units} words have no known type or no time, row or column yet. "
                f"This is no such recording, or a damaged one: copy it again"
            )
        if outside:
            height, width = self._sensor_size or (0, 0)
            what = f"outside the sensor of {width}x{height}, with {outside} of {self._count} events"
            if outside > max(TOLERATED * self._count, 10):
                raise ValueError(f"{self.path}: {where} is {what}. Correct the sensor size")
            log.warning("%s: %s is %s: they are dropped", self.path, where, what)
        if unusable:
            what = "words are dropped: of unknown type, or before the first time, row or column"
            log.warning("%s: %d of %d %s", self.path, unusable, units, what)
        self.dropped = outside + unusable


def check_sensor(
    path: str | Path, named: tuple[int, int] | None, given: tuple[int, int] | None
) -> tuple[int, int] | None:
    """The (height, width) that the file names or else the caller gives. ValueError where the two differ or are not
    1 to 16384."""
    size = named or given
    if size is not None and not all(0 < n <= 1 << 14 for n in size):
        raise ValueError(f"{path}: sensor size: height, width = {size}. Give both as 1 to 16384")
    if named and given and tuple(named) != tuple(given):
        raise ValueError(f"{path}: sensor size: the file names (height, width) {named}, not {given}. Leave it out")
    return size
