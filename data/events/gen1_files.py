"""Read folders in the layout of Gen1, `*_td.dat` with `*_bbox.npy`, into clips (`Gen1Files`)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from registry import UserError, none_of

from ..problems import Problem, Problems
from ..recordings import EventReader, LazyReader, ShiftedReader, Span, open_dat, open_events, read_boxes
from ..recordings.invalid_events import MAX_SIDE
from ..recordings.unpacking import MAX_UNPACKED_MB
from ..representations.base import check_numbers
from ..type_checks import class_list, flag, is_whole
from .clip import Clip
from .label_rules import LabelRules
from .split_folders import missing_folder

LABELS = "_bbox.npy"
CLOSE_US = 1000  # labels of 1 Hz or more lie at most so far apart if their times are in ms
RECORDINGS = ("_td.dat", "_td.dat.h5", "_td.h5", "_td.hdf5", "_td.raw", "_td.npz")  # the first that exists is read


class Gen1Files:
    """Reads folders into clips. Arguments as those of `Gen1`. training: whether their split is a training split.

    expected: number of label times so far, including those of absent recordings
    left_out: number of labels removed by rules and classes, by reason
    files:    recordings, including those that could not be opened
    sensors:  (height, width) per folder
    broken:   error of the first recording that could not be opened
    """

    def __init__(
        self,
        rules: LabelRules,
        training: bool,
        classes: Sequence[str],
        problems: Problems,
        *,
        label_names: Sequence[str] | None = None,
        sensor: Sequence[int] | None = None,
        shift_clock: bool = False,
        max_unpacked_mb: int = MAX_UNPACKED_MB,
        allow_missing: bool = False,
    ):
        self._rules, self._training, self.problems = rules, training, problems
        self._names, self._class_of = list(label_names or classes), _class_numbers(classes, label_names)
        check_numbers("events", 1, max_unpacked_mb=max_unpacked_mb)
        self._max_unpacked_mb, self._allow_missing = max_unpacked_mb, allow_missing
        self._sensor = _height_width(sensor)
        if (shift := flag(shift_clock)) is None:
            raise UserError(f"shift_clock = {shift_clock!r}: give true or false")
        self._shift = shift
        self.expected, self.left_out = 0, Counter[str]()
        self.files: list[Path] = []
        self.sensors: dict[Path, tuple[int, int]] = {}
        self.broken: ValueError | None = None

    def read(self, folder: Path) -> list[Clip]:
        """The clips of a folder, in natural order of their names."""
        if not folder.is_dir():
            raise missing_folder(folder)
        names = {path.name for path in folder.iterdir()}
        endings = (LABELS, *RECORDINGS)
        stems = {name.removesuffix(ending) for name in names for ending in endings if name.endswith(ending)}
        if not stems:
            remedy = f"with a recording of the same name (*{', *'.join(RECORDINGS)})"
            raise UserError(f"{folder}: holds no *{LABELS} {remedy}")
        clips, sensor = [], self._sensor
        for stem in sorted(stems, key=lambda s: [int(c) if c.isdigit() else c for c in re.split(r"(\d+)", s)]):
            if stem in self._rules.drop_clips:
                self.left_out["clips by name"] += 1
                continue
            found = next((stem + ending for ending in RECORDINGS if stem + ending in names), stem + RECORDINGS[0])
            if clip := self._read_clip(stem, folder / found, sensor):
                clips.append(clip)
                sensor = self.sensors[folder] = sensor or clip.sensor
        return clips

    def _read_clip(self, stem: str, recording: Path, sensor: tuple[int, int] | None) -> Clip | None:
        labels = recording.with_name(f"{stem}{LABELS}")
        if not labels.is_file():
            remedy = f"Copy {labels.name} beside it; for a clip without objects save an empty array under that name"
            self.problems.add(Problem("recording without labels", recording, "", "no label file", remedy, fatal=True))
            return None
        present = recording.is_file()
        if not present and not self._allow_missing:
            raise UserError(f"{recording}: no such file, yet {labels.name} labels it. Copy it, or set allow_missing")
        reader = self._readable(recording, sensor) if present else None
        if reader is not None and self._shift:
            reader = ShiftedReader(reader)
        recorded = None if reader is None else _span(reader)
        size = sensor if reader is None else reader.sensor_size
        height, width = size or (1 << 14, 1 << 14)
        before = len(self.problems.items)
        earliest = 0 if recorded is None else min(recorded.first_us, 0)
        boxes = read_boxes(labels, width, height, len(self._names), self.problems, earliest)
        negative = len(boxes) == 0 and len(self.problems.items) == before
        steps = np.diff(np.unique(boxes["t"]))
        if len(steps) and (spacing := np.median(steps)) <= CLOSE_US:
            remedy = "They are read as us: if they are ms or s, multiply them by 1000 or 1,000,000"
            self.problems.add(Problem("label times close together", labels, "", f"{spacing:g} us apart", remedy))
        boxes = self._labels(boxes, width, height, 0 if recorded is None else recorded.start_us)
        times = np.unique(boxes["t"])
        self.expected += 1 if negative else len(times)
        if reader is None:
            return None
        if negative:
            try:
                times = np.array([reader.t_last or 1_000_000])  # the last window; any, where there are no events
            except ValueError:
                if not self.problems.collect:
                    raise
                return None
            reader.close()
        name = f"{recording.parent.name}/{recording.name}"
        return Clip(stem, name, reader, (height, width), boxes, times, recorded=recorded)

    def _labels(self, boxes: np.ndarray, width: int, height: int, start_us: int) -> np.ndarray:
        """Boxes after the rules, with ids of `classes`."""
        numbers = self._class_of[boxes["class_id"]]
        for number, count in zip(*np.unique(boxes["class_id"][numbers < 0], return_counts=True), strict=True):
            self.left_out[f"of class {self._names[number]!r}"] += int(count)
        boxes = boxes[numbers >= 0]
        boxes["class_id"] = numbers[numbers >= 0]
        boxes, left_out = self._rules.apply(boxes, width, height, self._training, start_us)
        self.left_out.update(left_out)
        return boxes

    def _readable(self, recording: Path, sensor: tuple[int, int] | None) -> EventReader | None:
        self.files.append(recording)
        try:
            if recording.suffix == ".dat":
                # `data.check` audits each recording, and would otherwise report these problems twice.
                return open_dat(recording, None if self.problems.collect else self.problems)
            if sensor is None:
                reader = open_events(recording, max_unpacked_mb=self._max_unpacked_mb)
                reader.close()
                if (sensor := reader.sensor_size) is None:
                    raise UserError(f"{recording}: names no sensor size. Give it as `sensor`: (height, width)")
            return LazyReader(recording, sensor, self._max_unpacked_mb)
        except ValueError as error:
            if not self.problems.collect:
                raise
            self.broken = self.broken or error
            return None  # `data.check` reports the problems of each of `recordings`


def _span(reader: EventReader) -> Span | None:
    """`Span` of the events, as far as it is known without a pass over the file; None for a damaged recording, which
    raises its error when it is read."""
    with suppress(ValueError):
        recorded = reader.span()
        reader.close()
        return recorded
    return None


def _class_numbers(classes: Sequence[str], label_names: Sequence[str] | None) -> np.ndarray:
    """int [K]: index in `classes` of each class id in the label files; -1: left out."""
    classes = class_list(classes, "classes")
    names = classes if label_names is None else list(label_names)
    for name in classes:
        if name not in names:
            raise UserError(none_of(f"classes: the labels have no class {name!r}", name, names))
    return np.array([classes.index(name) if name in classes else -1 for name in names])


def _height_width(sensor: Sequence[int] | None) -> tuple[int, int] | None:
    if sensor is None:
        return None
    pair = isinstance(sensor, Sequence) and len(sensor) == 2
    if not pair or not all(is_whole(n) and 0 < n <= MAX_SIDE for n in sensor):
        raise UserError(f"sensor = {sensor!r}: give (height, width) in pixels, up to {MAX_SIDE}")
    return sensor[0], sensor[1]
