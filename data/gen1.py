"""Gen1 and any folder like it: `root/{train,val,test}/*_td.dat` with `*_bbox.npy`; a sample is one label time."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .dataset import DetectionDataset, MissingSplit
from .event_augment import EventAugment
from .events import GROUND, DatReader, Events, count_frames, last_event_frames, open_dat, read_boxes
from .image_augment import letterbox_placement
from .names import did_you_mean, reject_unknown
from .problems import Problem, Problems
from .registry import register_dataset
from .sample import Placement, Sample

RECORDING, LABELS = "_td.dat", "_bbox.npy"
OPEN_MAPS = 64  # recordings mapped at once in each process: Gen1 has more clips than a process may have open files
FRAMES = {"counts": (2, 1.0, 0), "last_event": (3, 1 / 255, GROUND)}  # channels, scale, value without events
STRIDE = 32  # coarsest level of the detectors; the default size is a multiple of it


@register_dataset("gen1")
class Gen1(DetectionDataset):
    """One sample per clip and distinct label time t: frames of the events in (t - window, t].

    frames:         "counts", [T, 2, H, W] events OFF and ON, or "last_event", [T, 3, H, W] pictures with three equal
                    channels: 255 or 0 by the polarity of a pixel's last event in the step, 127 where it had none
    num_steps, window_ms: T frames over the window, which may begin before the recording (those frames are empty then)
    size:           (height, width) of a frame; None: the sensor's, filled up at the right and bottom to multiples of 32
    augment:        options of `EventAugment`, such as {"hflip": 0.5}
    count_clip:     counts saturate there, 1..255
    newest_first:   the steps in reversed order, which the published SpikeYOLO loader gives by mistake
    pad:            value of `x` beyond the sensor; None: that of a pixel without events
    labels_from_ms: label times before this are no part of the split, neither as samples nor in `ground_truth`
    classes:        names of class ids 0, 1, ...
    allow_missing:  leave out clips whose `.dat` is absent; they still count in `expected_images`

    Counts: where the sensor is larger than `size`, coordinates are divided by the smallest whole number that makes it
    fit and the rest is filled up: cells of equal size, whose counts add up. (Other ratios would merge two columns here
    and one there, and draw stripes.) Last-event frames are pictures and are letterboxed into `size` like any. A clip
    with an empty label file is one sample without boxes: the last window of the clip. A clip whose labels were all
    dropped as invalid is no sample.
    """

    num_steps: int

    def __init__(
        self,
        split: str,
        *,
        root: str | Path,
        frames: str = "counts",
        num_steps: int = 5,
        window_ms: float = 250.0,
        size: Sequence[int] | None = None,
        augment: dict[str, Any] | None = None,
        count_clip: int = 255,
        newest_first: bool = False,
        pad: int | None = None,
        labels_from_ms: float = 0.0,
        classes: Sequence[str] = ("car", "pedestrian"),
        allow_missing: bool = False,
        problems: Problems | None = None,
    ):
        self.split, self.folder = split, Path(root) / split
        self.class_names = list(classes)
        self.num_steps = num_steps
        self.problems = Problems() if problems is None else problems
        self._window_us = round(window_ms * 1e3)
        if not 0 < num_steps <= self._window_us:
            raise ValueError(f"num_steps = {num_steps} does not fit a window of {window_ms} ms")
        if not 0 < count_clip <= 255:
            raise ValueError(f"count_clip = {count_clip}: give 1 to 255, the range of uint8 counts")
        if frames not in FRAMES:
            raise ValueError(f"frames = {frames!r}{did_you_mean(frames, FRAMES) or '.'} There are {', '.join(FRAMES)}")
        self.channels, self.scale, self._empty = FRAMES[frames]
        self._pad = self._empty if pad is None else pad
        if not 0 <= self._pad <= 255:
            raise ValueError(f"pad = {pad}: give 0 to 255")
        self._pictures, self._count_clip, self._newest_first = frames == "last_event", count_clip, newest_first
        self._augment = _event_augment(augment)
        if self._pictures and self._augment is not None and self._augment.polarity:
            raise ValueError("augment polarity swaps the channels of counts; last_event frames have one value for both")

        self._readers: list[DatReader] = []
        self._boxes: list[np.ndarray] = []
        self._recent: dict[int, None] = {}  # clips with an open map, the latest used last
        self._samples: list[tuple[int, int]] = []  # clip, label time in us
        self.expected_images = 0
        for stem in self._clips():
            self._add_clip(stem, round(labels_from_ms * 1e3), allow_missing)
        if not self._samples:
            raise ValueError(f"{self.folder}: no label time in {len(self._readers)} clips. Look at the *{LABELS} files")
        self.size, self._factor = self._fit(size)

    def __len__(self) -> int:
        return len(self._samples)

    def load(self, index: int, rng: np.random.Generator, epochs_left: int | None = None) -> Sample:
        clip, t_us = self._samples[index]
        reader = self._reader(clip)
        place = self._placement(reader)
        rows = self._rows(clip, t_us)
        frames, labels = self._frames(reader, t_us), rows["class_id"].astype(np.int64)
        boxes = _xyxy(rows) / self._factor  # as the frames are, not yet in `size`
        if self._augment is not None:
            frames, boxes, labels = self._augment(frames, boxes, labels, rng, self._empty)
        if self._pictures:
            scale, offset = (place.scale_x, place.scale_y), (place.left, place.top)
            frames, boxes = _resize(frames, place), boxes * (scale + scale) + (offset + offset)
        top, left = int(place.top), int(place.left)
        x = np.full((self.num_steps, self.channels, *self.size), self._pad, np.uint8)
        x[..., top : top + frames.shape[-2], left : left + frames.shape[-1]] = frames
        return Sample(
            x=torch.from_numpy(x[::-1].copy() if self._newest_first else x),
            boxes=torch.from_numpy(boxes.astype(np.float32)),
            labels=torch.from_numpy(labels),
            image_id=index + 1,
            original_size=(reader.height, reader.width),
            placement=place,
        )

    def ground_truth(self) -> dict[str, Any]:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id, (clip, t_us) in enumerate(self._samples, 1):
            reader = self._readers[clip]
            images.append(
                {
                    "id": image_id,
                    "width": reader.width,
                    "height": reader.height,
                    "file_name": f"{self.split}/{reader.path.name}",
                    "clip": reader.path.name.removesuffix(RECORDING),
                    "t_us": t_us,
                }
            )
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
                        "track_id": int(row["track_id"]),
                    }
                )
        categories = [{"id": k, "name": name} for k, name in enumerate(self.class_names, 1)]
        return {"images": images, "annotations": annotations, "categories": categories}

    def box_sizes(self) -> np.ndarray:
        places = (self._placement(reader) for reader in self._readers)
        sizes = [
            np.stack([boxes["w"] * place.scale_x, boxes["h"] * place.scale_y], axis=1)
            for boxes, place in zip(self._boxes, places, strict=True)
        ]
        return np.concatenate(sizes).astype(np.float32)

    def _frames(self, reader: DatReader, t_us: int) -> np.ndarray:
        """Frames [T, C, H, W] of the window that ends at `t_us`, oldest first; H, W are the sensor's over `_factor`."""
        t0_us = t_us - self._window_us
        events = reader.read(t0_us, t_us)
        height, width = -(-reader.height // self._factor), -(-reader.width // self._factor)
        if self._factor > 1:
            events = Events(events.t, events.x // self._factor, events.y // self._factor, events.p)
        if self._pictures:
            return last_event_frames(events, t0_us, t_us, self.num_steps, height, width)
        return count_frames(events, t0_us, t_us, self.num_steps, height, width, self._count_clip)

    def _placement(self, reader: DatReader) -> Placement:
        if self._pictures:
            return letterbox_placement((reader.height, reader.width), self.size)
        return Placement(1 / self._factor, 1 / self._factor)

    def _clips(self) -> list[str]:
        """Names of the clips, in natural order."""
        if not self.folder.is_dir():
            raise MissingSplit(f"{self.folder}: no such folder. `root` holds a folder per split: train, val, test")
        stems = set()
        for ending in (RECORDING, LABELS):
            stems |= {path.name.removesuffix(ending) for path in self.folder.glob(f"*{ending}")}
        if not stems:
            hint = " .h5 copies are not read: use the original recordings." if any(self.folder.glob("*.h5")) else ""
            raise ValueError(f"{self.folder}: holds no *{RECORDING} with *{LABELS}.{hint}")
        return sorted(stems, key=lambda s: [int(c) if c.isdigit() else c for c in re.split(r"(\d+)", s)])

    def _add_clip(self, stem: str, labels_from_us: int, allow_missing: bool) -> None:
        recording, labels = self.folder / f"{stem}{RECORDING}", self.folder / f"{stem}{LABELS}"
        if not labels.is_file():
            remedy = f"Copy {labels.name} beside it; for a clip without objects save an empty array under that name"
            self.problems.add(Problem("recording without labels", recording, "", "no label file", remedy, fatal=True))
            return
        present = recording.is_file()
        if not present and not allow_missing:
            raise ValueError(f"{recording}: no such file, yet {labels.name} labels it. Copy it, or set allow_missing")
        reader = self._readable(recording) if present else None
        width, height = (reader.width, reader.height) if reader else (1 << 14, 1 << 14)
        before = len(self.problems.items)
        boxes = read_boxes(labels, width, height, len(self.class_names), self.problems)
        negative = len(boxes) == 0 and len(self.problems.items) == before
        boxes = boxes[boxes["t"] >= labels_from_us]
        times = np.unique(boxes["t"]).tolist()
        self.expected_images += 1 if negative else len(times)
        if reader is None:
            return
        if negative:
            times = [reader.last_us or self._window_us]
            reader.close()
        self._samples += [(len(self._readers), t) for t in times]
        self._readers.append(reader)
        self._boxes.append(boxes)

    def _readable(self, recording: Path) -> DatReader | None:
        try:
            return open_dat(recording)
        except ValueError:
            if not self.problems.collect:
                raise
            return None  # `audit_dat` says what is wrong with it

    def _fit(self, size: Sequence[int] | None) -> tuple[tuple[int, int], int]:
        """((height, width) of the frames, the whole number that coordinates are divided by)."""
        sensors = {(r.height, r.width): r.path for r in self._readers}
        if size is None:
            if len(sensors) > 1:
                found = ", ".join(f"{path.name}: {w}x{h}" for (h, w), path in sensors.items())
                raise ValueError(
                    f"{self.folder}: clips of different sensors ({found}). Set `size`, or split the folder"
                )
            ((height, width),) = sensors
            return (-(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE), 1
        if len(size) != 2 or min(size) <= 0:
            raise ValueError(f"size = {list(size)}: give (height, width) in pixels")
        height, width = (int(s) for s in size)
        if self._pictures:
            return (height, width), 1
        # One number for all clips: an object keeps its size from clip to clip.
        return (height, width), max(max(-(-h // height), -(-w // width)) for h, w in sensors)

    def _reader(self, clip: int) -> DatReader:
        """The reader of a clip; the map of the one longest unused is given back."""
        self._recent.pop(clip, None)
        self._recent[clip] = None
        if len(self._recent) > OPEN_MAPS:
            oldest = next(iter(self._recent))
            del self._recent[oldest]
            self._readers[oldest].close()
        return self._readers[clip]

    def _rows(self, clip: int, t_us: int) -> np.ndarray:
        boxes = self._boxes[clip]
        first, last = np.searchsorted(boxes["t"], [t_us, t_us + 1])
        return boxes[first:last]


def _resize(frames: np.ndarray, place: Placement) -> np.ndarray:
    """Pictures [T, C, H, W] scaled as `place` says, bilinear; a smaller copy averages areas."""
    import cv2

    height, width = frames.shape[-2:]
    size = round(width * place.scale_x), round(height * place.scale_y)
    method = cv2.INTER_AREA if place.scale_x < 1 else cv2.INTER_LINEAR
    return np.stack([cv2.resize(f.transpose(1, 2, 0), size, interpolation=method).transpose(2, 0, 1) for f in frames])


def _xyxy(rows: np.ndarray) -> np.ndarray:
    corners = np.stack([rows["x"], rows["y"], rows["x"], rows["y"]], axis=1)
    corners[:, 2] += rows["w"]
    corners[:, 3] += rows["h"]
    return corners


def _event_augment(options: dict[str, Any] | None) -> EventAugment | None:
    if not options:
        return None
    reject_unknown(options, list(inspect.signature(EventAugment).parameters), "event augmentation")
    return EventAugment(**options)
