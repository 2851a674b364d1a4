"""A labelled recording (`Clip`): its reader, boxes, label times and time span; and the cache of open files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..recordings import EventReader, Span

OPEN_FILES = 64  # per process: Gen1 has more clips than the usual limit of open files


class Recording(Protocol):
    """A file of events, or of frames made of events, read by windows of time. `read` reopens it after `close`."""

    path: Path

    @property
    def sensor_size(self) -> tuple[int, int] | None: ...

    def read(self, t0_us: int, t1_us: int) -> Any: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class FromFirst:
    """Window of a recording with a single label for all of it: `length_us` from its first event; None: to its last."""

    length_us: int | None

    def window(self, reader: EventReader, shortest_us: int) -> tuple[int, int]:
        t0_us = reader.t_first - 1  # windows exclude their start t0
        end = max(reader.t_last, t0_us + shortest_us) if self.length_us is None else t0_us + self.length_us
        return t0_us, end


@dataclass(slots=True)
class Clip:
    """One labelled recording.

    boxes:      `BOX_DTYPE` [N] in order of time, within the sensor
    times:      int64 [us], label times with and without boxes
    recorded:   span of its events; None: unknown, or no events
    from_first: its window is computed when it is read, and its only label time is nominal
    """

    name: str
    file_name: str
    reader: Any  # a `Recording`
    sensor: tuple[int, int]  # height, width
    boxes: np.ndarray
    times: np.ndarray
    recorded: Span | None = None
    from_first: FromFirst | None = None

    @property
    def start_us(self) -> int:
        """The time at which the recording begins: see `Span.start_us`."""
        return 0 if self.recorded is None else self.recorded.start_us

    def boxes_at(self, t_us: int | None) -> np.ndarray:
        """Boxes at the label time `t_us`; none for None."""
        if t_us is None:
            return self.boxes[:0]
        first, last = np.searchsorted(self.boxes["t"], [t_us, t_us + 1])
        return self.boxes[first:last]


class OpenFiles:
    """LRU cache of open recordings: above `OPEN_FILES`, the least recently used one is closed."""

    def __init__(self) -> None:
        self._recent: dict[int, Recording] = {}  # by number of the clip, most recently used last

    def use(self, number: int, reader: Any) -> Any:
        self._recent.pop(number, None)
        self._recent[number] = reader
        if len(self._recent) > OPEN_FILES:
            self._recent.pop(next(iter(self._recent))).close()
        return reader
