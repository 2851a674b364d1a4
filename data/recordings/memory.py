"""Events in memory as a recording (`MemoryReader`), e.g. from a live camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from registry import UserError

from .interface import EventReader, Events
from .span import Span


class MemoryReader(EventReader):
    """`events`, in order of time and within `sensor_size` (height, width), which may be unknown."""

    def __init__(self, events: Events, sensor_size: tuple[int, int] | None = None):
        if (falls := np.diff(events.t) < 0).any():
            k = int(falls.argmax()) + 1
            raise UserError(f"event {k}: t = {events.t[k]} us comes after {events.t[k - 1]} us. Sort them by time")
        self.path, self.dropped, self.clamped = Path("events in memory"), 0, 0
        self._events, self._sensor_size = events, sensor_size

    def __len__(self) -> int:
        return len(self._events)

    @property
    def sensor_size(self) -> tuple[int, int] | None:
        return self._sensor_size

    @property
    def t_first(self) -> int:
        return int(self._events.t[0]) if len(self) else 0

    @property
    def t_last(self) -> int:
        return int(self._events.t[-1]) if len(self) else 0

    def span(self, exact: bool = False) -> Span | None:
        return Span(self.t_first, self.t_last) if len(self) else None

    def read(self, t0_us: int, t1_us: int) -> Events:
        events = self._events
        inside = slice(*np.searchsorted(events.t, (t0_us, t1_us), "right").tolist())
        return Events(events.t[inside], events.x[inside], events.y[inside], events.p[inside])

    def close(self) -> None:
        """Nothing is open."""
