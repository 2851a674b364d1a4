"""What every event recording offers, whatever its format: any window of time as arrays, and what the file holds."""

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
    """Random access to one recording. It pickles without its memory map or file handle, which each process opens anew.

    `dropped`: what reads leave out: events outside the sensor or without a polarity, words of events that lack a time,
    row or column, a record cut off at the end.
    `clamped`: events whose time lies a little behind that of an earlier one, which they get: what is read is in order.
    Both are logged once.
    """

    path: Path
    dropped: int
    clamped: int

    @abstractmethod
    def __len__(self) -> int:
        """Events in the file, those outside the sensor among them."""

    @property
    @abstractmethod
    def sensor_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels; None where neither the file nor the caller names it."""

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
        """When the first and the last event come; None in a recording without events.

        Unless `exact`, it is found without a pass over the file: the last time may be unknown then, and where a clock
        of 32 bits has wrapped it may be too early.
        """

    @abstractmethod
    def read(self, t0_us: int, t1_us: int) -> Events:
        """Events with t0_us < t <= t1_us, in order of time. Consecutive windows give what one long window does."""

    @abstractmethod
    def close(self) -> None:
        """Give the memory map or file handle back; the next read opens it again."""


class LoggedProblems(Problems):
    """For a recording opened by itself: what is not fatal is logged."""

    def add(self, problem: Problem) -> None:
        super().add(problem)
        log.warning("%s", problem)
