"""What is due between two steps of a training, the same on all ranks: to save, to end, because of signals or time."""

from __future__ import annotations

import signal
import time
from typing import NamedTuple

from . import distributed
from .interrupts import Interrupts

WORTH_SAVING = 60.0  # seconds of training that Ctrl-C does not discard


class Due(NamedTuple):
    """signal: number of the one that ends the training, 0 without. save: before that, or on time. over: `max_hours`
    have passed."""

    signal: int
    save: bool
    over: bool


class Clock:
    """Rank 0's clock decides, and a signal to any rank counts.

    save_minutes: between saves within an epoch; None: none. max_hours: since this was made; None: no limit.
    """

    def __init__(self, save_minutes: float | None = None, max_hours: float | None = None):
        self.save_minutes, self.max_hours = save_minutes, max_hours
        self.started = self.last_save = time.monotonic()
        self.discardable = True  # no checkpoint yet: Ctrl-C saves none before `WORTH_SAVING`

    def saved(self) -> None:
        """There is a checkpoint of now."""
        self.last_save, self.discardable = time.monotonic(), False

    def due(self, interrupts: Interrupts) -> Due:
        now, main = time.monotonic(), distributed.is_main()
        on_time = self.save_minutes is not None and now - self.last_save >= 60 * self.save_minutes
        over = self.max_hours is not None and now - self.started >= 3600 * self.max_hours
        worth = not self.discardable or now - self.started >= WORTH_SAVING
        mine = [interrupts.number, *(int(main and said) for said in (on_time, over, worth))]
        number, *said = distributed.largest(mine)
        on_time, over, worth = map(bool, said)
        return Due(number, on_time or over or (number > 0 and (worth or number != signal.SIGINT)), over)
