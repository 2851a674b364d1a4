"""A `.dat` recording written piece by piece, in memory that does not grow with it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from .dat import EVENT_TYPES, RECORD, WRAP
from .interface import Events


class DatWriter:
    """Writes a recording of a `width` x `height` sensor; use it in a `with` block.

    The bytes are those that `write_dat` gives for all events at once. `events`: how many were written so far.
    """

    def __init__(self, path: str | Path, width: int, height: int):
        self.path, self.width, self.height = Path(path), width, height
        self.events, self._last = 0, 0
        self._file = open(path, "wb")
        header = f"% Data file containing CD events.\n% Version 2\n% Height {height}\n% Width {width}\n"
        self._file.write(header.encode("ascii") + bytes((EVENT_TYPES[1], RECORD)))

    def write(self, events: Events) -> None:
        """Append events, sorted by time and none before those written. ValueError names the record that is wrong."""
        if not len(events):
            return
        t = events.t.astype(np.int64)
        for name, values, limit in (("x", events.x, self.width), ("y", events.y, self.height), ("p", events.p, 2)):
            if values.min() < 0 or values.max() >= limit:
                i = int(((values < 0) | (values >= limit)).argmax())
                where = f"{self.path}: record {self.events + i}: {name} = {values[i]}"
                raise ValueError(f"{where} is outside 0..{limit - 1}. Drop that event")
        if (backwards := np.diff(t, prepend=self._last) < 0).any():
            i = int(backwards.argmax())
            where = f"{self.path}: record {self.events + i}: time runs backwards"
            before = t[i - 1] if i else self._last
            raise ValueError(f"{where}: {t[i]} us after {before} us. Sort the events by time")
        raw = np.empty((len(t), 2), "<u4")
        raw[:, 0] = t & (WRAP - 1)
        raw[:, 1] = events.x.astype(np.uint32) | events.y.astype(np.uint32) << 14 | events.p.astype(np.uint32) << 28
        raw.tofile(self._file)
        self.events, self._last = self.events + len(t), int(t[-1])

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> DatWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
