"""Reader of Prophesee EVT2.1 (64-bit words): up to 32 adjacent pixels of one row, polarity and time per word.

Bits: type 63-60; EVT_NEG (0) and EVT_POS (1): time 59-54 (low 6 bits, us), x 53-43 of the first pixel (a multiple of
32), y 42-32, then a mask of the pixels x .. x + 31 from bit 0; TIME_HIGH (8): time 59-32 in units of 64 us. The IMX636
sends the upper half of a word first ("legacy"), the GenX320 the lower one. (docs.prophesee.ai, "EVT 2.1 Format")
"""

from __future__ import annotations

import numpy as np

from registry import UserError

from .blocks import Block
from .evt2 import HIGH_BITS, KNOWN, LOW_BITS, OFF, ON, TIME_HIGH, TIME_MASK, UNSET, RawReader, time_high
from .interface import Events
from .raw_header import RawHeader

_LOOKED_AT = 1 << 12  # words used to detect the order of the halves where the header does not give it
_BITS = np.arange(32, dtype=np.uint32)


class Evt21Reader(RawReader):
    """Random access to an EVT2.1 recording."""

    WORD, DTYPE, START, KNOWN = 8, "<2u4", (UNSET, 0), KNOWN

    def _prepare(self, header: RawHeader) -> None:
        self._upper = self._find_upper(header.endianness)

    def _find_upper(self, endianness: str) -> int:
        """Index of the upper half of a word, 0 or 1."""
        if endianness in ("legacy", "little"):
            return int(endianness == "little")
        words = np.asarray(self._source[:_LOOKED_AT])
        known = np.isin(words >> 28, KNOWN)
        # Reserved words give no evidence: first ignore those reserved in both orders, then those reserved in either.
        tries = [words[known.any(1)], words[known.all(1)]]
        fits = [[bool(len(some) and _plausible(some[:, half]).mean() > 0.99) for half in (0, 1)] for some in tries]
        found = next((fit for fit in fits if fit[0] != fit[1]), None)
        if len(words) and found is None:
            how = "both orders of their halves" if fits[0][0] else "neither order of their halves"
            remedy = "Write `% format EVT21;endianness=little` (GenX320) or `=legacy` (IMX636) into the header"
            raise UserError(f"{self.path}: header: the words fit {how}. {remedy}, or copy the file again")
        return int(found is None or found[1])

    def _decode(self, start: int, stop: int, state: tuple[int, ...]) -> Block:
        words = np.asarray(self._source[start:stop])
        upper, mask = words[:, self._upper], words[:, 1 - self._upper]
        kind = upper >> 28
        high, state = time_high(kind == TIME_HIGH, upper & TIME_MASK, state[:2], HIGH_BITS, 1 << LOW_BITS)
        change = (kind == OFF) | (kind == ON)
        timed = change & (high != UNSET)
        upper, high = upper[timed], high[timed]
        word, bit = np.nonzero(mask[timed, None] >> _BITS & 1)
        upper = upper[word]
        t = high[word] << LOW_BITS | (upper >> 22 & 63)
        x, y = ((upper >> 11 & 2047) + bit).astype(np.uint16), (upper & 2047).astype(np.uint16)
        lost = int(np.count_nonzero(change & ~timed))
        return Block(Events(t, x, y, (upper >> 28).astype(np.uint8)), state, lost, np.bincount(kind, minlength=16))


def _plausible(upper: np.ndarray) -> np.ndarray:
    kind = upper >> 28
    return np.isin(kind, KNOWN) & ((kind > ON) | (upper >> 11 & 31 == 0))
