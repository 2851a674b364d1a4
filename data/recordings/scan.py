"""Scan all events of a recording (`Scan`) for long gaps (silences) and duplicate events."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..problems import Problem

CHANCE = 1e-5  # share of events that are equal by chance in a dense recording, not reported
_PLACE = (1 << 29) - 1  # x: bits 0-13, y: bits 14-27, polarity: bit 28, as in a .dat


class Scan:
    """Takes the events of a recording in order of time, chunk by chunk.

    silences: [(a, b)]: times [us] of consecutive events at least `silence_us` apart; empty if `silence_us` is None
    repeated: number of events with the t, x, y and p of another one
    """

    def __init__(self, silence_us: int | None = None):
        self.silences: list[tuple[int, int]] = []
        self.repeated = 0
        self._silence_us = silence_us
        self._columns = np.zeros(1 << 14, np.int64)  # repeated events by x
        self._t, self._place = np.empty(0, np.int64), np.empty(0, np.int64)  # of the latest time, not counted yet

    def add(self, t: np.ndarray, place: np.ndarray) -> None:
        """t: int64 [N] us; place: integers [N], x, y and polarity in the bits of a `.dat`."""
        if not len(t):
            return
        t = np.concatenate([self._t, t])
        place = np.concatenate([self._place, place.astype(np.int64) & _PLACE])
        steps = np.diff(t)
        if self._silence_us is not None:
            for i in np.flatnonzero(steps >= self._silence_us):
                self.silences.append((int(t[i]), int(t[i + 1])))
        last = int(np.searchsorted(t, t[-1]))
        self._count(steps[: max(last - 1, 0)], place[:last])
        self._t, self._place = t[last:], place[last:]

    def problem(self, path: str | Path, events: int) -> Problem | None:
        """The problem of duplicate events among `events` in all, if any; call it after the last chunk."""
        self._count(np.diff(self._t), self._place)
        self._t, self._place = self._t[:0], self._place[:0]
        if self.repeated <= CHANCE * events:
            return None
        shares = np.cumsum(self._columns) / self.repeated
        first, last = np.searchsorted(shares, (0.05, 0.95)).tolist()
        share = f"{100 * self.repeated / events:.2g} %"
        what = (
            f"{self.repeated} of {events} events ({share}) have the t, x, y and p of another one, nine in ten of them "
        )
        what += f"in columns x = {first} to {last}"
        remedy = "They are kept and counted again: check whether the camera or a conversion duplicates events"
        return Problem("events more than once", path, "", what, remedy)

    def _count(self, steps: np.ndarray, place: np.ndarray) -> None:
        """Count duplicates among events [N] with time differences `steps` [N - 1]."""
        equal = steps == 0
        if not equal.any():
            return
        near = np.concatenate([equal, [False]]) | np.concatenate([[False], equal])  # events that share their time
        moment = np.concatenate([[0], np.cumsum(~equal)])
        keys = np.sort((moment << 29 | place)[near])
        again = keys[1:][keys[1:] == keys[:-1]]
        self.repeated += len(again)
        self._columns += np.bincount(again & 0x3FFF, minlength=1 << 14)
