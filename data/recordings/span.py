"""Time span of a recording (`Span`): first and last event, and the start that label rules count from."""

from __future__ import annotations

from dataclasses import dataclass

NEAR_ZERO_US = 1_000_000


@dataclass(frozen=True)
class Span:
    """Times of the first and the last event of a recording [us]. `last_us` is None where it would need a full pass."""

    first_us: int
    last_us: int | None

    @property
    def start_us(self) -> int:
        """Start of the recording, which rules such as "the first 0.5 s" count from.

        0 if the first event lies within the first second: the clock starts with the recording, as in Gen1. Otherwise
        the clock started earlier, and the start is the time of the first event.
        """
        return 0 if 0 <= self.first_us <= NEAR_ZERO_US else self.first_us
