"""Interface of event recordings (`EventReader`): events of any window of time (`Events`), sensor size, time span."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..problems import Problem, Problems
from .span import Span

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Events:
    """Events in order of time: t int64 [N] us, x and y uint16 [N] pixels, p uint8 [N] (0 OFF, 1 ON)."""

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray

    def __len__(self) -> int:
        return len(self.t)


class EventReader(ABC):
    """Random access to one recording. Pickles omit the memory map or file handle; each process opens its own.

    dropped: number of unusable events: outside the sensor, without a valid polarity, words without a time, row or
             column, a truncated last record
    clamped: number of events slightly out of order, whose time is raised to that of the latest one before
    Both are logged once.
    """

    path: Path
    dropped: int
    clamped: int

    @abstractmethod
    def __len__(self) -> int:
        """Number of events in the file, including those outside the sensor."""

    @property
    @abstractmethod
    def sensor_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels; None where neither the file nor the caller gives it."""

    @property
    @abstractmethod
    def t_first(self) -> int:
        """Time of the first event [us]; 0 in a recording without events."""

    @property
    @abstractmethod
    def t_last(self) -> int:
        """Time of the last event [us]; 0 in a recording without events."""

    @abstractmethod
    def span(self, exact: bool = False) -> Span | None:
        """Times of the first and the last event; None in a recording without events.

        Unless `exact`, it is found without a pass over the file. The last time may then be unknown, or too early where
        a 32-bit clock has wrapped.
        """

    @abstractmethod
    def read(self, t0_us: int, t1_us: int) -> Events:
        """Events with t0_us < t <= t1_us, in order of time. Consecutive windows give the same events as one."""

    @abstractmethod
    def close(self) -> None:
        """Close the memory map or file handle; the next read reopens it."""


class LoggedProblems(Problems):
    """Logs problems that are not fatal, for a recording that is opened on its own."""

    def add(self, problem: Problem) -> None:
        super().add(problem)
        log.warning("%s", problem)
