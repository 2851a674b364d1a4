"""Prophesee EVT2 words, 32 bits each, and what EVT2.1 shares with them: a clock whose high bits come in own words.

Bits: type 31-28; CD_OFF (0) and CD_ON (1): time 27-22 (low 6 bits, us), x 21-11, y 10-0; TIME_HIGH (8): time 27-0 in
units of 64 us, which wraps after 4.8 hours. (docs.prophesee.ai, "EVT 2.0 Format")
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..problems import Problems
from .blocks import BlockReader, check_sensor
from .interface import Events, LoggedProblems
from .raw_header import RawHeader

OFF, ON, TIME_HIGH = 0x0, 0x1, 0x8
KNOWN = (OFF, ON, TIME_HIGH, 0xA, 0xE, 0xF)  # the last three: triggers and vendors' data, which hold no pixels
LOW_BITS = 6
HIGH_WRAP = 1 << 28
UNSET = -(1 << 62)  # high bits of the clock before they have come


class RawReader(BlockReader):
    """Base of the `.raw` encodings: `WORD` bytes each. Words are memory-mapped as `DTYPE`."""

    WORD: int
    DTYPE: str
    START: tuple[int, ...]  # state of the decoder

    def __init__(
        self,
        path: str | Path,
        header: RawHeader,
        sensor_size: tuple[int, int] | None = None,
        problems: Problems | None = None,
    ):
        super().__init__(path, check_sensor(path, header.sensor_size, sensor_size))
        problems = LoggedProblems() if problems is None else problems
        self._offset = header.offset
        self._words = self._whole("word", header.offset, self.WORD, problems)
        self._prepare(header)
        self._build_index(self._words, problems, self.START)

    def _prepare(self, header: RawHeader) -> None:
        """What an encoding finds out before the pass."""

    def _connect(self) -> np.ndarray:
        return self._map(self.DTYPE, self._offset, self._words)


class Evt2Reader(RawReader):
    """Random access to an EVT2 recording."""

    WORD, DTYPE, START = 4, "<u4", (UNSET,)

    def _decode(self, start: int, stop: int, state: tuple[int, ...]) -> tuple[Events, tuple[int, ...], int]:
        words = np.asarray(self._source[start:stop])
        kind = words >> 28
        high, state = time_high(kind == TIME_HIGH, words & (HIGH_WRAP - 1), state[0], HIGH_WRAP)
        change = (kind == OFF) | (kind == ON)
        timed = change & (high != UNSET)
        events = words[timed]
        t = high[timed] << LOW_BITS | (events >> 22 & 63)
        x, y = (events >> 11 & 2047).astype(np.uint16), (events & 2047).astype(np.uint16)
        lost = int(np.count_nonzero(~np.isin(kind, KNOWN)) + np.count_nonzero(change & ~timed))
        return Events(t, x, y, (events >> 28).astype(np.uint8)), state, lost


def last_seen(there: np.ndarray, values: np.ndarray, before: int) -> np.ndarray:
    """int64 [N]: at each word the value of the last one up to it where `there` holds; `before` ahead of the first."""
    at = np.maximum.accumulate(np.where(there, np.arange(len(there)), -1))
    return np.where(at < 0, before, values.astype(np.int64)[at])


def time_high(there: np.ndarray, values: np.ndarray, before: int, wrap: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """High bits of the clock at each word, int64 [N], going on where they wrap; `UNSET` while none has come. And the
    state after the last word. Of two ways round the clock the shorter one is taken: forward over a wrap, or back."""
    seen = values[there].astype(np.int64)
    if not len(seen):
        return np.full(len(there), before, np.int64), (before,)
    start = int(seen[0]) if before == UNSET else before
    steps = np.diff(seen, prepend=start % wrap)
    seen = start + np.cumsum((steps + wrap // 2) % wrap - wrap // 2)
    unwrapped = np.zeros(len(there), np.int64)
    unwrapped[there] = seen
    return last_seen(there, unwrapped, before), (int(seen[-1]),)
