"""When a recording begins and ends on its own clock."""

from __future__ import annotations

from dataclasses import dataclass

NEAR_ZERO_US = 1_000_000


@dataclass(frozen=True)
class Span:
    """Times of the first and the last event of a recording [us]. `last_us` is None where only a pass over the file
    tells it."""

    first_us: int
    last_us: int | None

    @property
    def start_us(self) -> int:
        """The time at which the recording begins, which rules like "the first 0.5 s" count from.

        0 where the first event comes within a second from 0 on: the clock began with the recording, as those of Gen1
        do, and the sensor may have been still. Else the clock began elsewhere, and it is the first event's time.
        """
        return 0 if 0 <= self.first_us <= NEAR_ZERO_US else self.first_us
