"""Reader of N-MNIST and N-Caltech101 `.bin` recordings: 5 bytes per event of the ATIS sensor, no header.

Bytes: x, y, then polarity (bit 7) and a time of 23 bits [us], high bits first. A record with y = 240 is no event but
a clock overflow mark: it adds 2^13 us to all later times. Without marks the clock wraps after 8.4 s.
(garrickorchard.com/datasets/n-mnist)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..problems import Problems
from .blocks import Block, BlockReader
from .clock import JITTER_US, unwrap_clock
from .interface import Events, LoggedProblems

RECORD = 5  # bytes
MARK = 240  # y of a clock overflow mark
MARK_US = 1 << 13
WRAP_US = 1 << 23
ATIS = (240, 304)  # height, width: the file names none


class BinReader(BlockReader):
    """Random access to a `.bin`. `sensor_size` defaults to that of the ATIS; N-MNIST uses 34 x 34 pixels of it."""

    def __init__(self, path: str | Path, sensor_size: tuple[int, int] | None = None, problems: Problems | None = None):
        super().__init__(path, sensor_size or ATIS)
        problems = LoggedProblems() if problems is None else problems
        self._records = self._whole("record", 0, RECORD, problems)
        self._build_index(self._records, problems, (-1, 0, 0))

    def _connect(self) -> np.ndarray:
        return self._map("u1", 0, RECORD * self._records)

    def _decode(self, start: int, stop: int, state: tuple[int, ...]) -> Block:
        raw = self._source[start * RECORD : stop * RECORD].reshape(-1, RECORD)
        x, y = raw[:, 0].astype(np.uint16), raw[:, 1].astype(np.uint16)
        high, middle, low = (raw[:, i].astype(np.int64) for i in (2, 3, 4))
        marks = y == MARK
        *before, offset = state
        event = ~marks
        raw_t = ((high & 127) << 16 | middle << 8 | low)[event]
        t, clock = unwrap_clock(raw_t, tuple(before), WRAP_US, JITTER_US)
        t += offset + MARK_US * np.cumsum(marks)[event]
        events = Events(t, x[event], y[event], (raw[:, 2] >> 7)[event])
        return Block(events, (*clock, offset + MARK_US * int(marks.sum())))
