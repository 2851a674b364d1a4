"""TensorBoard writer of a run folder, for resumed runs too, and for clocks that are set back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

PREFIX = "events.out.tfevents."


class Board:
    """Writes scalars and images into a new event file of `folder`; points from `first_step` on in older files are
    hidden, since a resumed run writes them again.

    TensorBoard reads event files in the order of their names, which begin with a time in seconds, and hides what an
    earlier file has of later steps. Files named later than now are therefore renamed first, and times of events count
    on from the newest file by a clock that is never set back.
    """

    def __init__(self, folder: Path, first_step: int):
        older = sorted(folder.glob(f"{PREFIX}*"))
        self._start = max([time.time(), *(file.stat().st_mtime for file in older)])
        self._clock = time.monotonic()
        _date_before(older, int(time.time()))
        self._writer = SummaryWriter(str(folder), purge_step=first_step)

    def write(self, method: str, *arguments: Any) -> None:
        """`method` of `SummaryWriter` that takes a walltime: add_scalar, add_image ..."""
        getattr(self._writer, method)(*arguments, walltime=self._start + time.monotonic() - self._clock)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _date_before(files: list[Path], now: int) -> None:
    """Rename event files, keeping their order, so that their names sort before a file of `now`."""
    if not files or files[-1].name < f"{PREFIX}{now:010d}":
        return
    for i, file in enumerate(files):
        rest = file.name.removeprefix(PREFIX).partition(".")[2]
        file.rename(file.with_name(f"{PREFIX}{now - len(files) + i:010d}.{rest}"))
