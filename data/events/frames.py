"""Reader of precomputed event frames (`FrameFile`), by windows of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..recordings.hdf5 import ArrayFile  # h5py is slow to import


class FrameFile:
    """array: frames [N, C, H, W]; ends: int64 [N], increasing, end of each frame [us]; sensor_size: (height, width) of
    the recording, which may be larger than the frames."""

    def __init__(self, array: ArrayFile, ends: np.ndarray, sensor_size: tuple[int, int]):
        self.path, self.array, self.ends, self.sensor_size = array.path, array, ends, sensor_size

    @property
    def length_us(self) -> int:
        """Median length of the frames; 1 for a single frame."""
        return int(np.median(np.diff(self.ends))) if len(self.ends) > 1 else 1

    def read(self, t0_us: int, t1_us: int) -> np.ndarray:
        """Frames [n, C, H, W] that end within t0_us < t <= t1_us."""
        first, stop = np.searchsorted(self.ends, (t0_us, t1_us), "right").tolist()
        return self.array.read(first, stop)

    def close(self) -> None:
        self.array.close()
