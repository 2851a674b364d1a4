"""A recording on a clock that begins at its first event."""

from __future__ import annotations

from .interface import EventReader, Events
from .span import Span


class ShiftedReader(EventReader):
    """`reader`, all times counted from its first event, which is at 0: as the SDK of the camera's maker gives raw files
    by default, and so the labels made with it."""

    def __init__(self, reader: EventReader):
        self.path, self._reader = reader.path, reader

    @property
    def dropped(self) -> int:  # type: ignore[override]
        return self._reader.dropped

    @property
    def clamped(self) -> int:  # type: ignore[override]
        return self._reader.clamped

    def __len__(self) -> int:
        return len(self._reader)

    @property
    def sensor_size(self) -> tuple[int, int] | None:
        return self._reader.sensor_size

    @property
    def t_first(self) -> int:
        return 0

    @property
    def t_last(self) -> int:
        return self._reader.t_last - self._reader.t_first

    def span(self, exact: bool = False) -> Span | None:
        span = self._reader.span(exact)
        if span is None:
            return None
        return Span(0, None if span.last_us is None else span.last_us - span.first_us)

    def read(self, t0_us: int, t1_us: int) -> Events:
        first = self._reader.t_first
        events = self._reader.read(t0_us + first, t1_us + first)
        return Events(events.t - first, events.x, events.y, events.p)

    def close(self) -> None:
        self._reader.close()
