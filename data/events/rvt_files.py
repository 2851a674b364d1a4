"""Read recordings preprocessed by RVT into clips (`RvtFiles`): labels, frames and their end times."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

import numpy as np

from registry import UserError

from ..problems import Problem, Problems
from ..recordings import Span
from ..recordings.boxes import check_boxes
from ..recordings.unpacking import MAX_UNPACKED_MB, check_unpacked
from .clip import Clip
from .frames import FrameFile

if TYPE_CHECKING:
    from ..recordings.hdf5 import ArrayFile  # h5py is slow to import

FRAMES, LABELS = "event_representations_v2", "labels_v2"
_DAMAGE: tuple[type[Exception], ...] = (ValueError, EOFError, OSError, SyntaxError, BadZipFile, ZlibError, TokenError)
_DAMAGE += (KeyError, NotImplementedError, MemoryError)


class RvtFiles:
    """Reads folders of recordings. frames: folder of the frames below each of them.

    expected: number of label times so far, including those of absent recordings
    """

    def __init__(self, frames: Path, num_classes: int, problems: Problems, allow_missing: bool, max_unpacked_mb: int):
        self._folder, self._num_classes, self.problems = frames, num_classes, problems
        self._allow_missing, self._max_unpacked_mb = allow_missing, max_unpacked_mb
        self.expected = 0

    def read(self, path: Path) -> Clip | None:
        """The clip of a recording's folder; None where it is left out."""
        from ..recordings.hdf5 import ArrayFile

        whole, half = (path / self._folder / f"event_representations{end}.h5" for end in ("", "_ds2_nearest"))
        file, factor = (half, 2) if half.is_file() and not whole.is_file() else (whole, 1)
        try:
            labels = _load(path / LABELS / "labels.npz", "labels", self._max_unpacked_mb)
            times = _load(path / LABELS / "timestamps_us.npy").astype(np.int64)
            if not file.is_file():
                if not self._allow_missing:
                    raise UserError(f"{file}: no such file. Copy it, or set allow_missing")
                self.expected += len(times)
                return None
            ends = _load(path / self._folder / "timestamps_us.npy").astype(np.int64)
            frame_of = _load(path / self._folder / "objframe_idx_2_repr_idx.npy").astype(np.int64)
            frames = ArrayFile(file, "data", self._max_unpacked_mb)
            _compare(path, file, labels, times, ends, frame_of, frames)
        except ValueError as error:
            if not self.problems.collect:
                raise
            self.problems.add(Problem("unreadable recording", path, "", error, "It is left out", fatal=True))
            return None
        sensor = frames.shape[2] * factor, frames.shape[3] * factor
        source = path / LABELS / "labels.npz"
        boxes = check_boxes(labels, source, sensor[1], sensor[0], self._num_classes, self.problems)
        times = np.unique(boxes["t"])
        self.expected += len(times)
        length = int(ends[1] - ends[0]) if len(ends) > 1 else 0
        recorded = Span(int(ends[0]) - length + 1, int(ends[-1]))
        reader = FrameFile(frames, ends, sensor)
        return Clip(path.name, f"{path.parent.name}/{path.name}", reader, sensor, boxes, times, recorded)


def _load(path: Path, name: str | None = None, max_unpacked_mb: int = MAX_UNPACKED_MB) -> np.ndarray:
    """The array of an `.npy`, or array `name` of an `.npz`. UserError where it is absent, damaged or too large."""
    if not path.is_file():
        raise UserError(f"{path}: no such file. Copy the recording again")
    try:
        if name is not None:
            with ZipFile(path) as archive:
                check_unpacked(path, name, archive.getinfo(f"{name}.npy").file_size, max_unpacked_mb)
        loaded = np.load(path, allow_pickle=False)
        array = loaded if name is None else loaded[name]
    except _DAMAGE as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise UserError(f"{path}: not a readable array: {error}. Copy the recording again") from error
    numbers = name is not None or isinstance(array, np.ndarray) and array.dtype.kind in "iu"
    if not isinstance(array, np.ndarray) or array.ndim != 1 or not numbers:
        raise UserError(f"{path}: not a vector of {name or 'integers'}. Copy the recording again")
    return array


def _compare(
    path: Path,
    file: Path,
    labels: np.ndarray,
    times: np.ndarray,
    ends: np.ndarray,
    frame_of: np.ndarray,
    frames: ArrayFile,
) -> None:
    """UserError where labels, label times, frames and their times do not match."""
    again = "Make or copy the recording again"
    if len(frames.shape) != 4 or frames.shape[0] != len(ends) or frames.dtype not in (np.uint8, np.int8):
        raise UserError(
            f"{file}: 'data' is {frames.dtype} of shape {frames.shape}, with {len(ends)} times. It needs one frame of "
            f"bytes [C, H, W] per time. {again}"
        )
    if (falls := np.diff(ends) <= 0).any() or not len(ends):
        raise UserError(
            f"{file.with_name('timestamps_us.npy')}: entry {int(falls.argmax()) + 1 if len(ends) else 0}: "
            f"times do not rise. {again}"
        )
    bad = len(frame_of) != len(times) or (len(times) and not 0 <= frame_of.min() <= frame_of.max() < len(ends))
    if bad or not np.array_equal(ends[frame_of], times):
        index = file.with_name("objframe_idx_2_repr_idx.npy")
        raise UserError(f"{index}: does not lead to a frame at each label time. {again}")
    if "t" in (labels.dtype.names or ()) and not np.array_equal(np.unique(labels["t"]), times):
        raise UserError(f"{path / LABELS / 'timestamps_us.npy'}: other times than those of labels.npz. {again}")
