"""Event loading as in published code (Prophesee toolbox, RVT), written from descriptions, as a baseline for timing.

`Toolbox` reads as Prophesee's toolbox does, which EMS-YOLO and SpikeYOLO use; `last_event_frames` are their images.
`rvt_decode` and `rvt_histogram` are RVT's: events as int64 tensors, then one put with accumulation into uint8.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from mmap import mmap
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

RAW = np.dtype([("t", "<u4"), ("_", "<i4")])
EVENT = np.dtype([("t", "<u4"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])


class Toolbox:
    """A sequential reader of a `.dat` whose records begin at byte `offset`, which can be moved to a time."""

    def __init__(self, path: Path, offset: int):
        self.file, self.offset = open(path, "rb"), offset
        self.count = (path.stat().st_size - offset) // RAW.itemsize
        self.time = 0

    def _go(self, index: int) -> None:
        self.file.seek(self.offset + RAW.itemsize * index)

    def seek_time(self, time: int) -> None:
        """Halving with a read from the file each, down to 100,000 records, which are then read and searched."""
        low, high = 0, self.count
        while high - low > 100_000:
            middle = (low + high) // 2
            self._go(middle)
            found = int(np.fromfile(self.file, RAW, 1)["t"][0])
            low, high = (low, middle) if found > time else (middle + 1, high)
        self._go(low)
        low += int(np.searchsorted(np.fromfile(self.file, RAW, high - low)["t"], time))
        self._go(low)
        self.time = time

    def load_delta_t(self, delta_us: int) -> np.ndarray:
        """`EVENT` [N] of the next `delta_us`: blocks of 100,000 records until one ends later, joined and cut."""
        start, end, last, blocks = self.file.tell(), self.time + delta_us, self.time, []
        while last < end:
            raw = np.fromfile(self.file, RAW, 100_000)
            if not len(raw):
                break
            events = np.empty(len(raw), EVENT)
            events["t"] = raw["t"]
            events["x"] = np.bitwise_and(raw["_"], 0x3FFF)
            events["y"] = np.right_shift(np.bitwise_and(raw["_"], 0x3FFF << 14), 14)
            events["p"] = np.right_shift(np.bitwise_and(raw["_"], 1 << 28), 28)
            blocks.append(events)
            last = int(events["t"][-1])
        if not blocks:
            return np.empty(0, EVENT)
        blocks[-1] = blocks[-1][: np.searchsorted(blocks[-1]["t"], end)]
        joined = np.concatenate(blocks)
        self.file.seek(start + RAW.itemsize * len(joined))
        self.time = end
        return joined


def last_event_frames(
    reader: Toolbox, start_us: int, step_us: int, num_steps: int, height: int, width: int
) -> np.ndarray:
    """uint8 [T, H, W, 3] of the events with start_us <= t < start_us + T * step_us."""
    reader.seek_time(start_us)
    frames = np.empty((num_steps, height, width, 3), np.uint8)
    for frame in frames:
        events = reader.load_delta_t(step_us)
        frame[...] = 127
        if events.size:
            frame[events["y"], events["x"], :] = 255 * events["p"][:, None]
    return frames


def rvt_decode(mapped: mmap, offset: int, count: int, t0_us: int, t1_us: int) -> list[Tensor]:
    """x, y, p, t int64 [N] of t0_us < t <= t1_us, found by halving in the memory map: better than RVT's own HDF5."""
    times = _Times(mapped, offset, count)
    low, high = bisect_right(times, t0_us), bisect_right(times, t1_us)
    raw = np.frombuffer(mapped, RAW, high - low, offset + RAW.itemsize * low)
    address = raw["_"].astype(np.int64)
    x, y, p = address & 0x3FFF, (address >> 14) & 0x3FFF, (address >> 28) & 1
    return [torch.from_numpy(a) for a in (x, y, p, raw["t"].astype(np.int64))]


class _Times:
    def __init__(self, mapped: mmap, offset: int, count: int):
        self.mapped, self.offset, self.count = mapped, offset, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return struct.unpack_from("<I", self.mapped, self.offset + RAW.itemsize * index)[0]


def rvt_histogram(events: list[Tensor], bins: int, height: int, width: int, clip: int = 10) -> Tensor:
    """uint8 [2 * bins, H, W]; bins between the first and the last event. A count of 256 begins anew at 0."""
    x, y, p, t = events
    histogram = torch.zeros((2, bins, height, width), dtype=torch.uint8)
    if len(t):
        assert p.min() >= 0 and p.max() <= 1
        place = (t - t[0]) / max(int(t[-1] - t[0]), 1) * bins
        index = torch.clamp(place.floor(), max=bins - 1).long()
        cell = x + width * y + height * width * (index + bins * p)
        histogram.put_(cell, torch.ones_like(cell, dtype=torch.uint8), accumulate=True)
        histogram = torch.clamp(histogram, min=0, max=clip)
    return histogram.reshape(2 * bins, height, width)
