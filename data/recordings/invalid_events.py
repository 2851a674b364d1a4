"""Invalid events of all formats: outside the sensor, or with a polarity other than 0 and 1. They are dropped and
counted; more than 1 % of a recording are an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from registry import UserError

from ..problems import Problem
from .clock import outside_sensor, too_many
from .interface import Events

MAX_SIDE = 4096  # pixels: far above any event camera, and small enough for frames of a sensor to fit into memory


def check_sensor(
    path: str | Path, named: tuple[int, int] | None, given: tuple[int, int] | None
) -> tuple[int, int] | None:
    """(height, width) of the file (`named`), or else of the caller (`given`). UserError where they differ or are not 1
    to `MAX_SIDE`."""
    size = named or given
    if size is not None and not all(0 < n <= MAX_SIDE for n in size):
        raise UserError(f"{path}: sensor size: height, width = {size}. Give both as 1 to {MAX_SIDE}")
    if named and given and tuple(named) != tuple(given):
        raise UserError(f"{path}: sensor size: the file names (height, width) {named}, not {given}. Leave it out")
    return size


def whole_below(values: np.ndarray, limit: int) -> np.ndarray:
    """bool [N]: which `values`, of any numeric type, are integers from 0 to `limit` - 1."""
    good = values < limit
    if values.dtype.kind in "if":
        good &= values >= 0
    if values.dtype.kind == "f":
        good &= np.floor(values) == values
    return good


def inside(events: Events, sensor: tuple[int, int] | None) -> np.ndarray:
    """bool [N]: which events lie on a `sensor` of (height, width); None: unknown, up to `MAX_SIDE`."""
    height, width = sensor or (MAX_SIDE, MAX_SIDE)
    return whole_below(events.x, width) & whole_below(events.y, height)


class InvalidEvents:
    """Counters of a recording, updated chunk by chunk: events `outside` the sensor, of invalid `polarity`, and `on`."""

    def __init__(self, sensor: tuple[int, int] | None):
        self._sensor = sensor
        self.on = self.outside = self.polarity = 0
        self._off = self._negative = 0
        self._place: tuple[str, Any, Any] = "", 0, 0  # the first event outside
        self._odd: tuple[str, Any] = "", 0  # the first of an unknown polarity

    def add(self, start: int, events: Events) -> None:
        """Count a chunk of `events`, the first of which has the index `start`."""
        on_sensor, known = inside(events, self._sensor), whole_below(events.p, 2)
        self.on += int(np.count_nonzero(events.p == 1))
        self._off += int(np.count_nonzero(events.p == 0))
        if not on_sensor.all():
            i = int(on_sensor.argmin())
            self._place = self._place if self.outside else (f"event {start + i}", events.x[i], events.y[i])
            self.outside += int(len(events) - on_sensor.sum())
        odd = on_sensor & ~known
        if odd.any():
            i = int(odd.argmax())
            self._odd = self._odd if self.polarity else (f"event {start + i}", events.p[i])
            self.polarity += int(odd.sum())
            self._negative += int(np.count_nonzero(events.p[odd] < 0))

    def problems(self, path: str | Path, total: int) -> list[Problem]:
        """Problems of a recording of `total` events. OFF written as -1 is always an error: all OFF would be dropped."""
        found = []
        if self.outside:
            sensor = self._sensor or (MAX_SIDE, MAX_SIDE)
            found.append(outside_sensor(path, *self._place, sensor, self.outside, total))
        if self.polarity:
            event, p = self._odd
            what = f"p = {p}; {self.polarity} of {total} events have neither 0 nor 1"
            remedy = "They are dropped; if they are many, save (p > 0): 0 for OFF, 1 for ON"
            fatal = too_many(self.polarity, total) or (self._negative > 0 and not self._off)
            found.append(Problem("unknown polarity", path, event, what, remedy, fatal))
        return found
