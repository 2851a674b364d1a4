"""Folders as RVT preprocesses Gen1 and 1Mpx: frames made of the events beforehand, every 50 ms, and filtered labels.

    root/{train,val,test}/<clip>/labels_v2/labels.npz, timestamps_us.npy
    root/{train,val,test}/<clip>/event_representations_v2/stacked_histogram_dt=50_nbins=10/
        event_representations.h5 (1Mpx: event_representations_ds2_nearest.h5), timestamps_us.npy,
        objframe_idx_2_repr_idx.npy

(github.com/uzh-rpg/RVT, scripts/genx/preprocess_dataset.py)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

import numpy as np

from ..problems import Problem, Problems
from ..recordings import Span, Tally
from ..recordings.boxes import check_boxes
from ..recordings.unpacking import MAX_UNPACKED_MB, check_unpacked
from ..registry import register_dataset
from ..representations.base import check_numbers
from ..written import class_list, height_width
from .augment import Change
from .clip import Clip
from .dataset import STRIDE, EventDataset
from .split_folders import missing_folder
from .windows import WINDOW

if TYPE_CHECKING:
    from ..recordings.hdf5 import ArrayFile  # h5py is slow to import

FRAMES, LABELS = "event_representations_v2", "labels_v2"
# What the frames are, by the name of their folder: our representation of that form.
_FORMS = {"stacked_histogram": "stacked_histogram", "mixeddensity_stack": "mixed_density"}
_FOLDER = re.compile(r"(stacked_histogram|mixeddensity_stack)_(?:dt|ne)=\d+_nbins=(\d+)(?:_cutoff=\d+)?")
_OF_EVENTS = ("polarity", "drop", "drop_time", "drop_area")  # augmentation that frames come too late for
_DAMAGE: tuple[type[Exception], ...] = (ValueError, EOFError, OSError, SyntaxError, BadZipFile, ZlibError, TokenError)
_DAMAGE += (KeyError, NotImplementedError, MemoryError)


@register_dataset("rvt")
class Rvt(EventDataset):
    """One sample per label time: the `num_steps` frames up to the label's, `x` [T, C, H, W], as RVT made them.
    Arguments as those of `EventDataset`, but for those that concern events and their windows, and

    representation: name of the folder of frames; None: the only one there is
    classes:        names of class ids 0, 1, ...; of 1Mpx [pedestrian, two wheeler, car]
    max_unpacked_mb: MiB that the labels of a recording, or one chunk of its frames, may unpack to

    Frames before the first one of a recording are empty. In sequential sampling the windows tile the frames, which
    `num_steps` has to divide between any two label times. RVT filtered the labels of all splits, so scores are those of
    its truth, not of the published boxes. Frames of half the size keep their boxes, and the ground truth, in pixels of
    the recording.
    """

    def __init__(
        self,
        split: str,
        *,
        root: str | Path,
        representation: str | None = None,
        classes: Sequence[str] = ("car", "pedestrian"),
        num_steps: int = 5,
        sampling: str = "random",
        size: Sequence[int] | None = None,
        augment: dict[str, Any] | None = None,
        newest_first: bool = False,
        allow_missing: bool = False,
        max_unpacked_mb: int = MAX_UNPACKED_MB,
        problems: Problems | None = None,
    ):
        classes = class_list(classes, "classes")
        self._problems = Problems() if problems is None else problems
        check_numbers("rvt", 1, max_unpacked_mb=max_unpacked_mb)
        self._max_unpacked_mb = max_unpacked_mb
        self._allow_missing, self._num_classes, self._expected = allow_missing, len(classes), 0
        for name in _OF_EVENTS:
            if (augment or {}).get(name):
                raise ValueError(f"augment: {name} changes events, and these are frames already. Leave it out")
        folder = Path(root) / split
        if not folder.is_dir():
            raise missing_folder(folder)
        sequences = sorted(path for path in folder.iterdir() if path.is_dir())
        representation = representation or _only_folder(folder, sequences)
        match = _FOLDER.fullmatch(representation)
        if not match:
            known = "stacked_histogram_dt=50_nbins=10, or mixeddensity_stack_... with its bins"
            raise ValueError(f"representation = {representation!r} is none of RVT's. They are called {known}")
        self._folder = Path(FRAMES) / representation
        self._ends: list[np.ndarray] = []  # of each clip, the end of each frame in us
        clips = [clip for path in sequences if (clip := self._read_sequence(path)) is not None]
        if not clips:
            raise ValueError(f"{folder}: no recording with {LABELS} and {self._folder}. Look at `representation`")
        shapes = {self._array(clip).shape[1:]: clip.name for clip in clips}
        if len(shapes) > 1:
            raise ValueError(f"{folder}: frames of several shapes: {shapes}. Make one data set of each")
        ((channels, height, width),) = shapes
        size = height_width(size) if size is not None else (-(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE)
        form = {"name": _FORMS[match[1]], "bins": int(match[2])}
        common: dict[str, Any] = {"num_steps": num_steps, "sampling": sampling, "size": size, "augment": augment}
        common |= {"newest_first": newest_first, "problems": self._problems}
        super().__init__(split, clips, classes, self._expected, representation=form, **common)
        if channels != self.channels:
            raise ValueError(f"{folder}: frames of {channels} channels, not the {self.channels} of {representation}")
        if self._factor != clips[0].sensor[1] // width:
            raise ValueError(f"size = {list(size)}: the frames are {height} x {width}, which has to fit")

    def audit(self, recording: Path, problems: Problems) -> Tally | None:
        frames = next(self._array(clip) for clip in self._clips if clip.reader.path == recording)
        try:
            for start in range(0, frames.shape[0], 64):
                frames.read(start, start + 64)
        except ValueError as error:
            remedy = "It cannot be trained on"
            problems.add(Problem("unreadable recording", recording, "", error, remedy, fatal=True))
        frames.close()
        return None

    def _frames(self, number: int, t0_us: int, t1_us: int, change: Change | None) -> np.ndarray:
        ends, frames = self._ends[number], self._array(self._clips[number])
        self._reader(number)  # counts it among the open files
        first, stop = np.searchsorted(ends, (t0_us, t1_us), "right").tolist()
        read = frames.read(first, stop)
        x = np.zeros((self.num_steps, *read.shape[1:]), read.dtype)
        x[self.num_steps - len(read) :] = read
        return x

    def _cut_clip(self, number: int, clip: Clip, first_id: int) -> np.ndarray:
        ends, steps = self._ends[number], self.num_steps
        edges = np.concatenate([[min(clip.start_us, ends[0] - 1)], ends])  # frame k covers edges[k] to edges[k + 1]
        stops = np.searchsorted(ends, clip.times) + 1
        ids = first_id + np.arange(len(stops))
        starts = np.maximum(stops - steps, 0)
        if self.sequential:
            starts, stops, ids = _tile(stops, ids, steps, clip.file_name)
        windows = np.zeros(len(stops), WINDOW)
        windows["clip"], windows["t0"], windows["t1"], windows["image_id"] = number, edges[starts], edges[stops], ids
        windows["start"] = not self.sequential
        windows["start"][0] = True
        return windows

    @staticmethod
    def _array(clip: Clip) -> ArrayFile:
        from ..recordings.hdf5 import ArrayFile

        assert isinstance(clip.reader, ArrayFile)
        return clip.reader

    def _read_sequence(self, path: Path) -> Clip | None:
        from ..recordings.hdf5 import ArrayFile

        whole, half = (path / self._folder / f"event_representations{end}.h5" for end in ("", "_ds2_nearest"))
        file, factor = (half, 2) if half.is_file() and not whole.is_file() else (whole, 1)
        try:
            labels = _load(path / LABELS / "labels.npz", "labels", self._max_unpacked_mb)
            times = _load(path / LABELS / "timestamps_us.npy").astype(np.int64)
            if not file.is_file():
                if not self._allow_missing:
                    raise ValueError(f"{file}: no such file. Copy it, or set allow_missing")
                self._expected += len(times)
                return None
            ends = _load(path / self._folder / "timestamps_us.npy").astype(np.int64)
            frame_of = _load(path / self._folder / "objframe_idx_2_repr_idx.npy").astype(np.int64)
            frames = ArrayFile(file, "data", self._max_unpacked_mb)
            _compare(path, file, labels, times, ends, frame_of, frames)
        except ValueError as error:
            if not self._problems.collect:
                raise
            self._problems.add(Problem("unreadable recording", path, "", error, "It is left out", fatal=True))
            return None
        sensor = frames.shape[2] * factor, frames.shape[3] * factor
        source = path / LABELS / "labels.npz"
        boxes = check_boxes(labels, source, sensor[1], sensor[0], self._num_classes, self._problems)
        times = np.unique(boxes["t"])
        self._expected += len(times)
        self._ends.append(ends)
        length = int(ends[1] - ends[0]) if len(ends) > 1 else 0
        recorded = Span(int(ends[0]) - length + 1, int(ends[-1]))
        return Clip(path.name, f"{path.parent.name}/{path.name}", frames, sensor, boxes, times, recorded=recorded)


def _only_folder(folder: Path, sequences: list[Path]) -> str:
    found = {path.name for sequence in sequences[:1] for path in (sequence / FRAMES).glob("*") if path.is_dir()}
    if len(found) != 1:
        what = f"several ({', '.join(sorted(found))})" if found else "none"
        raise ValueError(f"{folder}: <clip>/{FRAMES}/ holds {what}. Name one folder of frames as `representation`")
    return found.pop()


def _load(path: Path, name: str | None = None, max_unpacked_mb: int = MAX_UNPACKED_MB) -> np.ndarray:
    """The array of an `.npy`, or one of an `.npz`. ValueError where it is absent, damaged, no vector or too large."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file. Copy the recording again")
    try:
        if name is not None:
            with ZipFile(path) as archive:
                check_unpacked(path, name, archive.getinfo(f"{name}.npy").file_size, max_unpacked_mb)
        loaded = np.load(path, allow_pickle=False)
        array = loaded if name is None else loaded[name]
    except _DAMAGE as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise ValueError(f"{path}: not a readable array: {error}. Copy the recording again") from error
    numbers = name is not None or isinstance(array, np.ndarray) and array.dtype.kind in "iu"
    if not isinstance(array, np.ndarray) or array.ndim != 1 or not numbers:
        raise ValueError(f"{path}: not a vector of {name or 'integers'}. Copy the recording again")
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
    """ValueError unless labels, label times, frames and their times belong together."""
    again = "Make or copy the recording again"
    if len(frames.shape) != 4 or frames.shape[0] != len(ends) or frames.dtype not in (np.uint8, np.int8):
        raise ValueError(
            f"{file}: 'data' is {frames.dtype} of shape {frames.shape}, with {len(ends)} times. It needs one frame of "
            f"bytes [C, H, W] per time. {again}"
        )
    if (falls := np.diff(ends) <= 0).any() or not len(ends):
        raise ValueError(
            f"{file.with_name('timestamps_us.npy')}: entry {int(falls.argmax()) + 1 if len(ends) else 0}: "
            f"times do not rise. {again}"
        )
    bad = len(frame_of) != len(times) or (len(times) and not 0 <= frame_of.min() <= frame_of.max() < len(ends))
    if bad or not np.array_equal(ends[frame_of], times):
        index = file.with_name("objframe_idx_2_repr_idx.npy")
        raise ValueError(f"{index}: does not lead to a frame at each label time. {again}")
    if "t" in (labels.dtype.names or ()) and not np.array_equal(np.unique(labels["t"]), times):
        raise ValueError(f"{path / LABELS / 'timestamps_us.npy'}: other times than those of labels.npz. {again}")


def _tile(stops: np.ndarray, ids: np.ndarray, steps: int, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first frame, frame after the last, image id) of windows of `steps` frames that tile a recording up to its last
    label and end at all labels. The first one may be shorter."""
    gaps = np.diff(stops)
    if (odd := gaps % steps != 0).any():
        k = int(odd.argmax())
        raise ValueError(
            f"{name}: {gaps[k]} frames lie between label times {k + 1} and {k + 2}, which num_steps = {steps} does not "
            f"divide. Sequential sampling needs that: set num_steps to {int(np.gcd.reduce(gaps))} or a divisor of it"
        )
    ends = np.arange(int(stops[-1]), 0, -steps)[::-1]
    starts = np.maximum(ends - steps, 0)
    named = np.zeros(len(ends), np.int64)
    named[np.searchsorted(ends, stops)] = ids
    return starts, ends, named
