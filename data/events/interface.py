"""What every event recording offers, whatever its format: any window of time as arrays, and what the file holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np


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

    `dropped`: what reads leave out, such as events outside the sensor. It is logged once.
    """

    path: Path
    dropped: int

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
    def read(self, t0_us: int, t1_us: int) -> Events:
        """Events with t0_us < t <= t1_us."""

    @abstractmethod
    def close(self) -> None:
        """Give the memory map or file handle back; the next read opens it again."""
