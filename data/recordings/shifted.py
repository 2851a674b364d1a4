"""Recordings whose clock is shifted to begin at the first event (`ShiftedReader`)."""

from __future__ import annotations

from .forwarding import ForwardingReader
from .interface import EventReader, Events
from .span import Span


class ShiftedReader(ForwardingReader):
    """`reader` with all times relative to its first event. Prophesee's SDK reads raw files so by default, and labels
    made with it are on that clock."""

    def __init__(self, reader: EventReader):
        self.path, self._original = reader.path, reader

    @property
    def _reader(self) -> EventReader:
        return self._original

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
