"""Gen1 and 1Mpx as preprocessed by RVT: precomputed frames of 50 ms, and filtered labels.

    root/{train,val,test}/<clip>/labels_v2/labels.npz, timestamps_us.npy
    root/{train,val,test}/<clip>/event_representations_v2/stacked_histogram_dt=50_nbins=10/
        event_representations.h5 (1Mpx: event_representations_ds2_nearest.h5), timestamps_us.npy,
        objframe_idx_2_repr_idx.npy

(github.com/uzh-rpg/RVT, scripts/genx/preprocess_dataset.py)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from registry import UserError

from ..problems import Problem, Problems
from ..recordings import Tally
from ..recordings.unpacking import MAX_UNPACKED_MB
from ..registry import register_dataset
from ..representations.base import check_numbers
from ..type_checks import class_list, height_width
from .clip import Clip
from .dataset import is_sequential
from .input import FrameInput, up_to_stride
from .rvt_files import FRAMES, LABELS, RvtFiles
from .split_folders import missing_folder
from .window_dataset import WindowDataset
from .windows import WINDOW, cut_windows

# Folder of the frames -> representation of the same form.
_FORMS = {"stacked_histogram": "stacked_histogram", "mixeddensity_stack": "mixed_density"}
_FOLDER = re.compile(r"(stacked_histogram|mixeddensity_stack)_(?:dt|ne)=\d+_nbins=(\d+)(?:_cutoff=\d+)?")
_OF_EVENTS = ("polarity", "drop", "drop_time", "drop_area")  # augmentation of events, impossible on frames


@register_dataset("rvt")
class Rvt(WindowDataset):
    """One sample per label time: the `num_steps` frames up to the label's, `x` [T, C, H, W].
    Arguments of `EventDataset`, without those of events and windows, and

    representation: name of the folder of frames; None: the only one there
    classes:        names of class ids 0, 1, ...; for 1Mpx [pedestrian, two wheeler, car]
    max_unpacked_mb: limit in MiB of the unpacked labels of a recording, or of one chunk of its frames

    Frames before the first one of a recording are empty. In sequential sampling the windows tile the frames, so
    `num_steps` must divide the number of frames between any two labels. RVT filtered the labels of all splits: scores
    refer to its labels, not to the published boxes. For frames of half the size, boxes and ground truth stay in pixels
    of the recording.
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
        problems = Problems() if problems is None else problems
        check_numbers("rvt", 1, num_steps=num_steps, max_unpacked_mb=max_unpacked_mb)
        for name in _OF_EVENTS:
            if (augment or {}).get(name):
                raise UserError(f"augment: {name} changes events, and these are frames already. Leave it out")
        folder = Path(root) / split
        if not folder.is_dir():
            raise missing_folder(folder)
        recordings = sorted(path for path in folder.iterdir() if path.is_dir())
        representation = representation or _only_folder(folder, recordings)
        match = _FOLDER.fullmatch(representation)
        if not match:
            known = "stacked_histogram_dt=50_nbins=10, or mixeddensity_stack_... with its bins"
            raise UserError(f"representation = {representation!r} is none of RVT's. They are called {known}")
        files = RvtFiles(Path(FRAMES) / representation, len(classes), problems, allow_missing, max_unpacked_mb)
        clips = [clip for path in recordings if (clip := files.read(path)) is not None]
        if not clips:
            where = f"{LABELS} and {FRAMES}/{representation}"
            raise UserError(f"{folder}: no recording with {where}. Look at `representation`")
        shapes = {clip.reader.array.shape[1:]: clip.name for clip in clips}
        if len(shapes) > 1:
            raise UserError(f"{folder}: frames of several shapes: {shapes}. Make one data set of each")
        ((channels, height, width),) = shapes
        form = {"name": _FORMS[match[1]], "bins": int(match[2])}
        size = height_width(size) if size is not None else up_to_stride(height, width)
        sensor = max(clip.sensor[0] for clip in clips), max(clip.sensor[1] for clip in clips)
        window_us = num_steps * max(clip.reader.length_us for clip in clips)
        input = FrameInput(form, num_steps, window_us, sensor, size, newest_first)
        if channels != input.channels:
            raise UserError(f"{folder}: frames of {channels} channels, not the {input.channels} of {representation}")
        if input.factor != clips[0].sensor[1] // width:
            raise UserError(f"size = {list(size)}: the frames are {height} x {width}, which has to fit")
        sequential = is_sequential(sampling, input)
        windows = cut_windows(split, clips, partial(_windows, num_steps, sequential), num_steps)
        common: dict[str, Any] = {"sequential": sequential, "augment": augment, "problems": problems}
        super().__init__(split, clips, windows, input, classes, files.expected, **common)

    def audit(self, recording: Path, problems: Problems) -> Tally | None:
        frames = next(clip.reader.array for clip in self._clips if clip.reader.path == recording)
        try:
            for start in range(0, frames.shape[0], 64):
                frames.read(start, start + 64)
        except ValueError as error:
            remedy = "It cannot be trained on"
            problems.add(Problem("unreadable recording", recording, "", error, remedy, fatal=True))
        frames.close()
        return None


def _only_folder(folder: Path, sequences: list[Path]) -> str:
    found = {path.name for sequence in sequences[:1] for path in (sequence / FRAMES).glob("*") if path.is_dir()}
    if len(found) != 1:
        what = f"several ({', '.join(sorted(found))})" if found else "none"
        raise UserError(f"{folder}: <clip>/{FRAMES}/ holds {what}. Name one folder of frames as `representation`")
    return found.pop()


def _windows(steps: int, sequential: bool, number: int, clip: Clip, first_id: int) -> np.ndarray:
    """`WINDOW` [N] of a clip: the `steps` frames up to each label, or, if `sequential`, all up to the last label."""
    ends = clip.reader.ends
    edges = np.concatenate([[min(clip.start_us, ends[0] - 1)], ends])  # frame k covers edges[k] to edges[k + 1]
    stops = np.searchsorted(ends, clip.times) + 1
    ids = first_id + np.arange(len(stops))
    starts = np.maximum(stops - steps, 0)
    if sequential:
        starts, stops, ids = _tile(stops, ids, steps, clip.file_name)
    windows = np.zeros(len(stops), WINDOW)
    windows["clip"], windows["t0"], windows["t1"], windows["image_id"] = number, edges[starts], edges[stops], ids
    windows["start"] = not sequential
    windows["start"][0] = True
    return windows


def _tile(stops: np.ndarray, ids: np.ndarray, steps: int, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(start frame, stop frame, image id) of windows of `steps` frames that tile a recording up to its last label.
    Every label ends a window; the first window may be shorter."""
    gaps = np.diff(stops)
    if (odd := gaps % steps != 0).any():
        k = int(odd.argmax())
        raise UserError(
            f"{name}: {gaps[k]} frames lie between label times {k + 1} and {k + 2}, which num_steps = {steps} does not "
            f"divide. Sequential sampling needs that: set num_steps to {int(np.gcd.reduce(gaps))} or a divisor of it"
        )
    ends = np.arange(int(stops[-1]), 0, -steps)[::-1]
    starts = np.maximum(ends - steps, 0)
    named = np.zeros(len(ends), np.int64)
    named[np.searchsorted(ends, stops)] = ids
    return starts, ends, named
