"""Base class of readers that wrap another one (`ForwardingReader`)."""

from __future__ import annotations

from abc import abstractmethod

from .interface import EventReader, Events
from .span import Span


class ForwardingReader(EventReader):
    """Forwards everything to `_reader`; a subclass defines that property, and overrides what differs."""

    @property
    @abstractmethod
    def _reader(self) -> EventReader: ...

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
        return self._reader.t_first

    @property
    def t_last(self) -> int:
        return self._reader.t_last

    def span(self, exact: bool = False) -> Span | None:
        return self._reader.span(exact)

    def read(self, t0_us: int, t1_us: int) -> Events:
        return self._reader.read(t0_us, t1_us)

    def close(self) -> None:
        self._reader.close()
