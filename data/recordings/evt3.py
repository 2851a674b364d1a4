"""Reader of Prophesee EVT3 (16-bit words): a stateful encoding that only sends what differs from the event before.

Type in bits 15-12: ADDR_Y (0): y; ADDR_X (2): polarity (bit 11) and x, one event; VECT_BASE_X (3): polarity and x of
the vectors to come; VECT_12 (4), VECT_8 (5): a mask of the next 12 or 8 pixels, after which the base moves on by as
many; TIME_LOW (6) and TIME_HIGH (8): 12 bits each of a clock of 24 bits [us], which wraps every 16.8 s.
(docs.prophesee.ai, "EVT 3.0 Format")
"""

from __future__ import annotations

import numpy as np

from .blocks import Block
from .evt2 import UNSET, RawReader, last_seen, time_high
from .interface import Events

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW, TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
# The last four: triggers, vendor data and continuations of both, without pixels.
KNOWN = (ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW, TIME_HIGH, 0x7, 0xA, 0xE, 0xF)
COLUMNS = 1 << 11  # vectors that lead further have lost their base
_BITS = np.arange(12, dtype=np.uint16)


class Evt3Reader(RawReader):
    """Random access to an EVT3 recording."""

    WORD, DTYPE, START, KNOWN = 2, "<u2", (UNSET, 0, 0, -1, -1, 0), KNOWN

    def _decode(self, start: int, stop: int, state: tuple[int, ...]) -> Block:
        high_before, _, low_before, y_before, base_before, p_before = state
        words = np.asarray(self._source[start:stop])
        kind, value = words >> 12, words & 4095
        is_high = kind == TIME_HIGH
        high, clock = time_high(is_high, value, state[:2], 12, 1 << 12)
        # The low bits count from 0 again where the high ones change; their own word need not follow.
        restart = is_high & (np.diff(high, prepend=high_before) != 0)
        low = last_seen((kind == TIME_LOW) | restart, np.where(restart, 0, value), low_before)
        y = last_seen(kind == ADDR_Y, value & 2047, y_before)

        base_here = kind == VECT_BASE_X
        moved = np.cumsum(12 * (kind == VECT_12) + 8 * (kind == VECT_8), dtype=np.int64)  # by vectors up to here
        zero = last_seen(base_here, (value & 2047) - moved, base_before)  # x of the base, had it never moved
        base = np.where((base_before < 0) & ~np.logical_or.accumulate(base_here), -1, zero + moved)
        polarity = last_seen(base_here, value >> 11, p_before)
        after = *clock, *(int(a[-1]) for a in (low, y, base, polarity))

        single, vector = kind == ADDR_X, (kind == VECT_12) | (kind == VECT_8)
        size = np.where(kind == VECT_12, 12, 8)
        x = np.where(single, value & 2047, base - size)  # of the first pixel of the word
        mask = np.where(single, 1, np.where(kind == VECT_8, value & 255, value))
        polarity = np.where(single, value >> 11, polarity)
        change = single | vector
        known = change & (high != UNSET) & (y >= 0) & (x >= 0) & (x < COLUMNS)
        (index,) = known.nonzero()
        word, bit = np.nonzero(mask[index, None] >> _BITS & 1)
        word = index[word]
        t = high[word] << 12 | low[word]
        events = Events(
            t, (x[word] + bit).astype(np.uint16), y[word].astype(np.uint16), polarity[word].astype(np.uint8)
        )
        return Block(events, after, int(np.count_nonzero(change & ~known)), np.bincount(kind, minlength=16))
