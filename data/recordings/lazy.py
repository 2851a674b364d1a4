"""Recordings opened at their first read (`LazyReader`), since opening most formats takes a pass over the file."""

from __future__ import annotations

from pathlib import Path

from ..problems import Problems
from .forwarding import ForwardingReader
from .interface import EventReader
from .reader import open_events
from .span import Span
from .unpacking import MAX_UNPACKED_MB


class LazyReader(ForwardingReader):
    """`open_events`, deferred to the first access to events, their number or their times.

    sensor_size: (height, width), known without opening. UserError at the first read where the file has another one
    max_unpacked_mb: as in `open_events`
    """

    def __init__(self, path: str | Path, sensor_size: tuple[int, int], max_unpacked_mb: int = MAX_UNPACKED_MB):
        self.path = Path(path)
        self._sensor_size, self._max_unpacked_mb = sensor_size, max_unpacked_mb
        self._opened: EventReader | None = None

    @property
    def _reader(self) -> EventReader:
        if self._opened is None:
            self._opened = open_events(self.path, self._sensor_size, max_unpacked_mb=self._max_unpacked_mb)
        return self._opened

    @property
    def sensor_size(self) -> tuple[int, int]:
        return self._sensor_size

    def span(self, exact: bool = False) -> Span | None:
        if exact or self._opened is not None:
            return self._reader.span(exact)
        reader = open_events(self.path, self._sensor_size, Problems(), False, self._max_unpacked_mb)
        reader.close()
        return reader.span()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
