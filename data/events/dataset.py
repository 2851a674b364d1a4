"""What datasets of event recordings share: windows, their representation, augmentation, placement, ground truth."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from registry import none_of, reject_unknown

from ..dataset import DetectionDataset
from ..images.augment import letterbox_placement
from ..problems import Problem, Problems
from ..recordings import EventReader, Events, Span, Tally, audit_events
from ..recordings.boxes import NO_TRACK
from ..recordings.unpacking import MAX_UNPACKED_MB
from ..representations import build_representation
from ..representations.base import check_numbers
from ..sample import Placement, Sample
from ..written import class_list, flag, height_width, is_whole
from .augment import Change, EventAugment
from .clip import Clip, Recording
from .label_clock import clock_problem
from .windows import WINDOW, label_windows, sequential_windows

OPEN_MAPS = 64  # recordings mapped at once in each process: Gen1 has more clips than a process may have open files
SAMPLINGS = ("random", "sequential")
STRIDE = 32  # coarsest level of the detectors; the default size is a multiple of it


class EventDataset(DetectionDataset):
    """One sample per label time t of each clip: the events in (t - window, t] as `x` [T, C, H, W].

    representation: a name, or {name: counts, clip: 10}: see docs/representations.md
    num_steps, window_ms: T steps over the window, which may begin before the recording (those steps are empty then)
    sampling:       "random", or "sequential": the windows tile each recording from its start (`Span.start_us`) to its
                    last label time, for a detector whose state is carried on. They end at all label times, and
                    between those are about `window_ms` long. One without a label at its end is not scored
    size:           (height, width) of x; None: the sensor's, filled up at the right and bottom to multiples of 32
    augment:        options of `EventAugment`, such as {"hflip": 0.5}; in sequential sampling drawn once per recording
    newest_first:   the steps in reversed order, which the published SpikeYOLO loader gives by mistake
    pad:            value of `x` beyond the sensor, one that its type holds; None: that of a pixel without events
    allow_missing:  leave out recordings whose file is absent; their samples still count in `expected_images`

    Where the sensor is larger than `size`, coordinates are divided by the smallest whole number that makes it fit and
    the rest is filled up: cells of equal size, whose counts add up. (Other ratios would merge two columns here and one
    there, and draw stripes.) Representations that are pictures are letterboxed into `size` like any.

    A subclass reads its folder into clips and calls this constructor with them.
    """

    num_steps: int

    def __init__(
        self,
        split: str,
        clips: list[Clip],
        class_names: Sequence[str],
        expected_images: int,
        *,
        representation: str | Mapping[str, Any] = "counts",
        num_steps: int = 5,
        window_ms: float = 250.0,
        sampling: str = "random",
        size: Sequence[int] | None = None,
        augment: dict[str, Any] | None = None,
        newest_first: bool = False,
        pad: float | None = None,
        problems: Problems | None = None,
    ):
        check_numbers("events", 1, num_steps=num_steps)
        check_numbers("events", 0.0, window_ms=window_ms)
        self.split, self.class_names, self.num_steps = split, class_list(class_names, "classes"), num_steps
        self.expected_images = expected_images
        self.problems = Problems() if problems is None else problems
        self._window_us = round(window_ms * 1e3)
        if num_steps > self._window_us:
            raise ValueError(f"num_steps = {num_steps} does not fit a window of {window_ms} ms")
        self.representation = build_representation(representation, num_steps)
        self.channels, self.scale = self.representation.channels, self.representation.scale
        self._pad = self.representation.empty if pad is None else _checked_pad(pad, self.representation.dtype)
        if sampling not in SAMPLINGS:
            raise ValueError(none_of(f"sampling = {sampling!r}", sampling, SAMPLINGS))
        self.sequential = sampling == "sequential"
        if (newest := flag(newest_first)) is None:
            raise ValueError(f"newest_first = {newest_first!r}: give true or false")
        if newest and self.sequential:
            raise ValueError("newest_first turns the steps of a window round, and sequential sampling joins windows")
        self._newest_first = newest
        self._augment = _event_augment(augment)
        self._clips = clips
        self._recent: dict[int, None] = {}  # clips with an open map, the latest used last
        self._windows = self._cut()
        if not len(self._windows):
            what = f"label time in {len(clips)} recordings. Look at the label files" if clips else "recording there"
            raise ValueError(f"split {split!r}: no {what}")
        self.size, self._factor = self._fit(size)

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def recordings(self) -> list[Path]:
        """Files of the clips."""
        return [clip.reader.path for clip in self._clips]

    def audit(self, recording: Path, problems: Problems) -> Tally | None:
        """Read all of one of `recordings` and add what is wrong with it to `problems`.

        Returns what it holds; None where that would stop a training, or where it holds frames in place of events.
        """
        return self._audit(recording, problems, None)

    def _audit(
        self,
        recording: Path,
        problems: Problems,
        sensor: tuple[int, int] | None,
        max_unpacked_mb: int = MAX_UNPACKED_MB,
    ) -> Tally | None:
        number = next((k for k, clip in enumerate(self._clips) if clip.reader.path == recording), None)
        windows = self._windows[self._windows["clip"] == number]
        windows = windows[windows["image_id"] > 0]
        shortest = int((windows["t1"] - windows["t0"]).min()) if len(windows) else None
        tally = audit_events(recording, problems, sensor, shortest, max_unpacked_mb)
        if number is not None and tally and tally.events and len(windows):
            known = self._clips[number].recorded
            shift = tally.first_us - known.first_us if known else 0  # of the clip's clock against that of the file
            recorded = Span(tally.first_us - shift, tally.last_us - shift)
            silences = [(begin - shift, end - shift) for begin, end in tally.silences]
            if problem := clock_problem(recording, windows, recorded, silences):
                problems.replace(problem)
        return tally

    @property
    def sequences(self) -> list[range] | None:
        if not self.sequential:
            return None
        starts = [*np.flatnonzero(self._windows["start"]).tolist(), len(self)]
        return [range(a, b) for a, b in zip(starts, starts[1:], strict=False)]

    def seed_index(self, index: int) -> int:
        return int(self._windows["clip"][index]) if self.sequential else index

    def load(self, index: int, rng: np.random.Generator, epochs_left: int | None = None) -> Sample:
        number, t0_us, t1_us, image_id, start = self._windows[index].tolist()
        clip = self._clips[number]
        change = None if self._augment is None else self._augment.draw(rng)
        frames = self._frames(number, t0_us, t1_us, change)
        if self.representation.picture:
            frames = frames[:, :1]  # all channels are equal
        rows = self._rows(clip, t1_us if image_id else None)
        labels = rows["class_id"].astype(np.int64)
        boxes = _xyxy(rows) / self._factor  # as the frames are, not yet in `size`
        if change is not None:
            frames, boxes, labels = change.frames(frames, boxes, labels, self.representation.empty)
        place = self._placement(clip)
        if self.representation.picture:
            scale, offset = (place.scale_x, place.scale_y), (place.left, place.top)
            frames, boxes = _resize(frames, place), boxes * (scale + scale) + (offset + offset)
        top, left = int(place.top), int(place.left)
        channels = (self.channels,) if self.representation.picture else frames.shape[1:-2]
        x = np.full((len(frames), *channels, *self.size), self._pad, frames.dtype)
        x[..., top : top + frames.shape[-2], left : left + frames.shape[-1]] = frames
        return Sample(
            x=torch.from_numpy(x[::-1].copy() if self._newest_first else x),
            boxes=torch.from_numpy(boxes.astype(np.float32)),
            labels=torch.from_numpy(labels),
            image_id=image_id,
            original_size=clip.sensor,
            placement=place,
            labelled=image_id > 0,
            start=start,
        )

    def view(self, x: torch.Tensor) -> torch.Tensor:
        oldest_first = x.flip(0) if self._newest_first else x
        return torch.from_numpy(self.representation.view(oldest_first.numpy()))

    def ground_truth(self) -> dict[str, Any]:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        labelled = self._windows[self._windows["image_id"] > 0]
        for number, t_us, image_id in zip(*(labelled[k].tolist() for k in ("clip", "t1", "image_id")), strict=True):
            clip = self._clips[number]
            height, width = clip.sensor
            image = {"id": image_id, "width": width, "height": height, "file_name": clip.file_name}
            images.append({**image, "clip": clip.name, "t_us": t_us, "start_us": clip.start_us})
            for row in self._rows(clip, t_us):
                x, y, w, h = (float(row[k]) for k in "xywh")
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": int(row["class_id"]) + 1,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                        "track_id": -1 if row["track_id"] == NO_TRACK else int(row["track_id"]),
                    }
                )
        categories = [{"id": k, "name": name} for k, name in enumerate(self.class_names, 1)]
        return {"images": images, "annotations": annotations, "categories": categories}

    def box_sizes(self) -> np.ndarray:
        sizes = [np.zeros((0, 2))]
        for clip in self._clips:
            place = self._placement(clip)
            sizes.append(np.stack([clip.boxes["w"] * place.scale_x, clip.boxes["h"] * place.scale_y], axis=1))
        return np.concatenate(sizes).astype(np.float32)

    def _frames(self, number: int, t0_us: int, t1_us: int, change: Change | None) -> np.ndarray:
        """`x` of the window (t0_us, t1_us] of a clip, oldest first; H, W are the sensor's over `_factor`."""
        form, (height, width) = self.representation, self._clips[number].sensor
        reader = self._reader(number)
        assert isinstance(reader, EventReader)
        events = reader.read(t0_us - form.history_us, t1_us)
        if change is not None:
            events = change.events(events, t0_us, t1_us, height, width)
        if self._factor > 1:
            events = Events(events.t, events.x // self._factor, events.y // self._factor, events.p)
        return form(events, t0_us, t1_us, -(-height // self._factor), -(-width // self._factor))

    def _cut(self) -> np.ndarray:
        """All `WINDOW`s, clip by clip; ids count label times, so both samplings number them alike."""
        windows, count = [np.zeros(0, WINDOW)], 1
        for number, clip in enumerate(self._clips):
            if not len(clip.times):
                continue
            mine = self._cut_clip(number, clip, count)
            short = mine["t1"] - mine["t0"] < self.num_steps
            if short.any():
                t1 = mine["t1"][int(short.argmax())]
                raise ValueError(
                    f"{clip.file_name}: the window that ends at {t1} us is shorter than {self.num_steps} us, one for "
                    f"each of num_steps. Label times lie too near each other for sequential sampling"
                )
            self._report_clock(clip, mine)
            windows.append(mine)
            count += len(clip.times)
        return np.concatenate(windows)

    def _report_clock(self, clip: Clip, windows: np.ndarray) -> None:
        """Add what is wrong with the label times of a clip, as far as it is known without a pass over its events."""
        recorded = clip.recorded
        if recorded is None or not isinstance(clip.reader, EventReader):
            return
        if recorded.last_us is not None and windows["t0"].max() >= recorded.last_us:
            with suppress(ValueError):  # of a damaged recording, which says so when it is read
                recorded = clip.reader.span(exact=True)
            clip.reader.close()
        if recorded and (problem := clock_problem(clip.reader.path, windows, recorded)):
            self.problems.add(problem)

    def _cut_clip(self, number: int, clip: Clip, first_id: int) -> np.ndarray:
        """`WINDOW`s of one clip, in order of time."""
        if clip.span is not None:
            return np.array([(number, *clip.span, first_id, True)], WINDOW)
        if not self.sequential:
            return label_windows(number, clip.times, self._window_us, first_id)
        return sequential_windows(number, clip.times, self._window_us, first_id, clip.recorded, self.num_steps)

    def _placement(self, clip: Clip) -> Placement:
        if self.representation.picture:
            return letterbox_placement(clip.sensor, self.size)
        return Placement(1 / self._factor, 1 / self._factor)

    def _fit(self, size: Sequence[int] | None) -> tuple[tuple[int, int], int]:
        """((height, width) of x, the whole number that coordinates are divided by)."""
        sensors = {clip.sensor: clip.name for clip in self._clips}
        if size is None:
            if len(sensors) > 1:
                found = ", ".join(f"{name}: {w}x{h}" for (h, w), name in sensors.items())
                raise ValueError(f"split {self.split!r}: clips of different sensors ({found}). Set `size`")
            ((height, width),) = sensors
            return (-(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE), 1
        height, width = height_width(size)
        if self.representation.picture:
            return (height, width), 1
        # One number for all clips: an object keeps its size from clip to clip.
        factor = max(max(-(-h // height), -(-w // width)) for h, w in sensors)
        if len(sensors) > 1:
            counts = Counter(f"{w}x{h}" for h, w in (clip.sensor for clip in self._clips))
            what = ", ".join(f"{count} of {sensor}" for sensor, count in counts.items())
            remedy = f"All coordinates are divided by {factor}; leave recordings of another sensor out"
            self.problems.add(Problem("recordings of several sensors", f"split {self.split!r}", "", what, remedy))
        return (height, width), factor

    def _reader(self, number: int) -> Recording:
        """The reader of a clip; the map of the one longest unused is given back."""
        self._recent.pop(number, None)
        self._recent[number] = None
        if len(self._recent) > OPEN_MAPS:
            oldest = next(iter(self._recent))
            del self._recent[oldest]
            self._clips[oldest].reader.close()
        return self._clips[number].reader

    @staticmethod
    def _rows(clip: Clip, t_us: int | None) -> np.ndarray:
        """Boxes of a label time; none where there is no label."""
        if t_us is None:
            return clip.boxes[:0]
        first, last = np.searchsorted(clip.boxes["t"], [t_us, t_us + 1])
        return clip.boxes[first:last]


def _resize(frames: np.ndarray, place: Placement) -> np.ndarray:
    """Gray pictures [T, 1, H, W] scaled as `place` says, bilinear; a smaller copy averages areas."""
    import cv2

    height, width = frames.shape[-2:]
    size = round(width * place.scale_x), round(height * place.scale_y)
    method = cv2.INTER_AREA if place.scale_x < 1 else cv2.INTER_LINEAR
    return np.stack([cv2.resize(f, size, interpolation=method) for f in frames[:, 0]])[:, None]


def _xyxy(rows: np.ndarray) -> np.ndarray:
    corners = np.stack([rows["x"], rows["y"], rows["x"], rows["y"]], axis=1)
    corners[:, 2] += rows["w"]
    corners[:, 3] += rows["h"]
    return corners


def _checked_pad(pad: object, dtype: type[np.generic]) -> float:
    """`pad`. ValueError for a value that `dtype` does not hold."""
    if issubclass(dtype, np.floating):
        if (is_whole(pad) or isinstance(pad, float)) and np.isfinite(pad):
            return pad
        raise ValueError(f"pad = {pad!r}: give a number")
    limits = np.iinfo(dtype)  # type: ignore[type-var]
    if is_whole(pad) and limits.min <= pad <= limits.max:
        return pad
    raise ValueError(f"pad = {pad!r}: give a whole number from {limits.min} to {limits.max}")


def _event_augment(options: dict[str, Any] | None) -> EventAugment | None:
    if not options:
        return None
    reject_unknown(options, list(inspect.signature(EventAugment).parameters), "event augmentation")
    return EventAugment(**options)
