"""A labelled recording of a split: its reader, its boxes, its label times and its clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..recordings import EventReader, Span

OPEN_FILES = 64  # in each process: Gen1 has more clips than a process may have open files


class Recording(Protocol):
    """A file of events, or of frames made of them, read by windows of time; it can be read after `close` as well."""

    path: Path

    @property
    def sensor_size(self) -> tuple[int, int] | None: ...

    def read(self, t0_us: int, t1_us: int) -> Any: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class FromFirst:
    """The one window of a recording whose label is of the whole: `length_us` from its first event on; None: up to its
    last one."""

    length_us: int | None

    def window(self, reader: EventReader, shortest_us: int) -> tuple[int, int]:
        t0_us = reader.t_first - 1  # windows lack the events at their beginning
        end = max(reader.t_last, t0_us + shortest_us) if self.length_us is None else t0_us + self.length_us
        return t0_us, end


@dataclass(slots=True)
class Clip:
    """One labelled recording.

    boxes: `BOX_DTYPE` [N] in order of time, within the sensor; times: int64, the label times in us, with and without
    boxes; recorded: when its events come, None where that is not known or there are none; from_first: its window is
    found when it is read, and its one label time is nominal.
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
        """Boxes of a label time; none where there is no label."""
        if t_us is None:
            return self.boxes[:0]
        first, last = np.searchsorted(self.boxes["t"], [t_us, t_us + 1])
        return self.boxes[first:last]


class OpenFiles:
    """Keeps the recordings read last open, at most `OPEN_FILES`; the file of the one longest unused is given back."""

    def __init__(self) -> None:
        self._recent: dict[int, Recording] = {}  # by number of the clip, the latest used last

    def use(self, number: int, reader: Any) -> Any:
        self._recent.pop(number, None)
        self._recent[number] = reader
        if len(self._recent) > OPEN_FILES:
            self._recent.pop(next(iter(self._recent))).close()
        return reader
