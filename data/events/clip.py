"""A labelled recording of a split: its reader, its boxes, its label times and its clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..recordings import Span


class Recording(Protocol):
    """A file of events, or of frames made of them, that can be read after `close` as well."""

    path: Path

    def close(self) -> None: ...


@dataclass(slots=True)
class Clip:
    """One labelled recording.

    boxes: `BOX_DTYPE` [N] in order of time, within the sensor; times: int64, the label times in us, with and without
    boxes; span: (t0, t1] where all its samples have one window, as recordings of one label do; recorded: when its
    events come, None where that is not known or there are none.
    """

    name: str
    file_name: str
    reader: Recording
    sensor: tuple[int, int]  # height, width
    boxes: np.ndarray
    times: np.ndarray
    span: tuple[int, int] | None = None
    recorded: Span | None = None

    @property
    def start_us(self) -> int:
        """The time at which the recording begins: see `Span.start_us`."""
        return 0 if self.recorded is None else self.recorded.start_us
