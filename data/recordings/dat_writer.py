"""Write `.dat` recordings, at once (`write_dat`) or in chunks (`DatWriter`)."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from registry import UserError

from .clock import WRAP, backwards
from .dat_header import EVENT_TYPES, RECORD
from .interface import Events
from .invalid_events import check_sensor


class DatWriter:
    """Writes a recording of a `width` x `height` sensor, as a context manager. An error in the block removes the file,
    since an incomplete recording could not be told from a whole one.

    events: number written so far
    """

    def __init__(self, path: str | Path, width: int, height: int):
        check_sensor(path, (height, width), None)
        self.path, self.width, self.height = Path(path), width, height
        self.events, self._last = 0, 0
        self._file = open(path, "wb")
        header = f"% Data file containing CD events.\n% Version 2\n% Height {height}\n% Width {width}\n"
        self._file.write(header.encode("ascii") + bytes((EVENT_TYPES[1], RECORD)))

    def write(self, events: Events) -> None:
        """Append events, sorted by time and not before those written. UserError names the first invalid record."""
        if not len(events):
            return
        limits = (("t", 1 << 62), ("x", self.width), ("y", self.height), ("p", 2))
        for name, limit in limits:
            values = getattr(events, name)
            if values.min() < 0 or values.max() >= limit:
                i = int(((values < 0) | (values >= limit)).argmax())
                where = f"{self.path}: record {self.events + i}: {name} = {values[i]}"
                raise UserError(f"{where} is outside 0..{limit - 1}. Drop that event")
        t = events.t.astype(np.int64)
        if (falls := np.diff(t, prepend=self._last) < 0).any():
            i = int(falls.argmax())
            before = t[i - 1] if i else self._last
            raise UserError(str(backwards(self.path, f"record {self.events + i}", t[i], before)))
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
        if kind is not None:
            self.path.unlink(missing_ok=True)


def write_dat(
    path: str | Path, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, width: int, height: int
) -> None:
    """Write events ([N] each, t in us and sorted) as a recording of a `width` x `height` sensor."""
    t, x, y, p = (np.asarray(a) for a in (t, x, y, p))
    if not len(t) == len(x) == len(y) == len(p):
        raise UserError(f"{path}: t, x, y, p have {len(t)}, {len(x)}, {len(y)}, {len(p)} entries. Give one per event")
    with DatWriter(path, width, height) as writer:
        writer.write(Events(t, x, y, p))
