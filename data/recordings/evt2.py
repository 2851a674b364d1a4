"""Reader of Prophesee EVT2 (32-bit words), and `RawReader`, shared with EVT2.1 and EVT3: high time bits in own words.

Bits: type 31-28; CD_OFF (0) and CD_ON (1): time 27-22 (low 6 bits, us), x 21-11, y 10-0; TIME_HIGH (8): time 27-0 in
units of 64 us, which wraps after 4.8 hours. (docs.prophesee.ai, "EVT 2.0 Format")
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..problems import Problem, Problems
from .blocks import Block, BlockReader
from .clock import JITTER_US, too_many, unwrap_clock
from .interface import Events, LoggedProblems
from .invalid_events import check_sensor
from .raw_header import RawHeader

OFF, ON, TIME_HIGH = 0x0, 0x1, 0x8
KNOWN = (OFF, ON, TIME_HIGH, 0xA, 0xE, 0xF)  # the last three: triggers and vendor data, without pixels
LOW_BITS = 6
HIGH_BITS = 28
TIME_MASK = (1 << HIGH_BITS) - 1
UNSET = -1  # high bits of the clock before the first TIME_HIGH
Clock = tuple[np.ndarray, tuple[int, int]]


class RawReader(BlockReader):
    """Base class of the `.raw` encodings, with words of `WORD` bytes, memory-mapped as `DTYPE`."""

    WORD: int
    DTYPE: str
    START: tuple[int, ...]  # state of the decoder, that of the clock first
    KNOWN: tuple[int, ...]  # word types; the others of the 16 are reserved, and used as padding by some cameras

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
        """Hook: set up the decoder before the pass over the file."""

    def _connect(self) -> np.ndarray:
        return self._map(self.DTYPE, self._offset, self._words)

    def _odd_words(self, lost: int, kinds: np.ndarray) -> list[Problem]:
        found, total = [], self._words
        reserved = {kind: count for kind, count in enumerate(kinds.tolist()) if count and kind not in self.KNOWN}
        if count := sum(reserved.values()):
            of_type = ", ".join(f"{n} of type 0x{kind:X}" for kind, n in reserved.items())
            if count == total:
                remedy = "This is no such recording, or a damaged one: copy it again"
                what = f"{total} of {total} words have no known type: {of_type}"
                found.append(Problem("words without meaning", self.path, "", what, remedy, fatal=True))
            what = f"{count} of {total} words: {of_type}"
            found.append(Problem("reserved words", self.path, "", what, "They are ignored, as padding is"))
        if lost:
            what = f"{lost} of {total} words of events have no time, row or column yet"
            remedy = "They are dropped; if they are many, this is a damaged recording: copy it again"
            found.append(Problem("words without meaning", self.path, "", what, remedy, too_many(lost, total)))
        return found


class Evt2Reader(RawReader):
    """Random access to an EVT2 recording."""

    WORD, DTYPE, START, KNOWN = 4, "<u4", (UNSET, 0), KNOWN

    def _decode(self, start: int, stop: int, state: tuple[int, ...]) -> Block:
        words = np.asarray(self._source[start:stop])
        kind = words >> 28
        high, state = time_high(kind == TIME_HIGH, words & TIME_MASK, state[:2], HIGH_BITS, 1 << LOW_BITS)
        change = (kind == OFF) | (kind == ON)
        timed = change & (high != UNSET)
        events = words[timed]
        t = high[timed] << LOW_BITS | (events >> 22 & 63)
        x, y = (events >> 11 & 2047).astype(np.uint16), (events & 2047).astype(np.uint16)
        lost = int(np.count_nonzero(change & ~timed))
        kinds = np.bincount(kind, minlength=16)
        return Block(Events(t, x, y, (events >> 28).astype(np.uint8)), state, lost, kinds)


def last_seen(there: np.ndarray, values: np.ndarray, before: int) -> np.ndarray:
    """int64 [N]: forward fill: the latest of the `values` where `there` is true; `before` until the first one."""
    at = np.maximum.accumulate(np.where(there, np.arange(len(there)), -1))
    return np.where(at < 0, before, values.astype(np.int64)[at])


def time_high(there: np.ndarray, values: np.ndarray, state: tuple[int, ...], bits: int, tick_us: int) -> Clock:
    """Unwrap the high bits of the clock (`bits` of them, in units of `tick_us`), sent in words where `there` is true.

    Returns (int64 [N]: high bits at each word, `UNSET` before the first; state after the last word).
    """
    before = state[0]
    seen, after = unwrap_clock(values[there], state, 1 << bits, -(-JITTER_US // tick_us))
    unwrapped = np.zeros(len(there), np.int64)
    unwrapped[there] = seen
    return last_seen(there, unwrapped, before), after
