"""Base class of datasets of recordings (`WindowDataset`): a sample is a window of a clip and the boxes at its end."""

from __future__ import annotations

import copy
import inspect
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from registry import UserError, reject_unknown

from ..dataset import DetectionDataset
from ..problems import Problems
from ..recordings import Tally
from ..recordings.boxes import NO_TRACK
from ..sample import Sample
from ..type_checks import class_list
from .augment import EventAugment
from .clip import Clip, OpenFiles
from .history import history_lengths, history_windows, windows_before
from .input import WindowInput


class WindowDataset(DetectionDataset):
    """One sample per window of its clips.

    clips:   recordings with their labels
    windows: `WINDOW` [N], clip by clip, in order of time
    input:   converts a window to `x`
    augment: options of `EventAugment`, such as {"hflip": 0.5}; drawn once per recording if `sequential`
    sequential: the windows of a clip tile it, for a detector that carries its state
    """

    input: WindowInput
    num_steps: int

    def __init__(
        self,
        split: str,
        clips: list[Clip],
        windows: np.ndarray,
        input: WindowInput,
        class_names: Sequence[str],
        expected_images: int,
        *,
        sequential: bool = False,
        augment: dict[str, Any] | None = None,
        problems: Problems | None = None,
    ):
        self.split, self.class_names, self.expected_images = split, class_list(class_names, "classes"), expected_images
        self.problems = Problems() if problems is None else problems
        self.input, self.sequential = input, sequential
        self.channels, self.scale, self.num_steps = input.channels, input.scale, input.num_steps
        self._augment = _event_augment(augment)
        self._clips, self._windows, self._open = clips, windows, OpenFiles()

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def size(self) -> tuple[int, int]:
        return self.input.size

    @property
    def recordings(self) -> list[Path]:
        """Files of the clips."""
        return [clip.reader.path for clip in self._clips]

    @abstractmethod
    def audit(self, recording: Path, problems: Problems) -> Tally | None:
        """Read one of `recordings` completely and add its problems to `problems`.

        Returns its tally; None where a problem would stop a training, or where it holds frames instead of events.
        """

    def labelled(self) -> Sequence[int]:
        return np.flatnonzero(self._windows["image_id"] > 0).tolist()

    @property
    def sequences(self) -> list[range] | None:
        if not self.sequential:
            return None
        starts = [*np.flatnonzero(self._windows["start"]).tolist(), len(self)]
        return [range(a, b) for a, b in zip(starts, starts[1:], strict=False)]

    def with_history(self, windows: int | None) -> WindowDataset:
        """This split with the same labels, each at the end of `windows` windows of its own that begin from the initial
        state, fewer where its recording begins; None: all since it began. For evaluation.

        In sequential sampling they are the windows of this dataset, in random sampling windows of a label's own length.
        UserError for recordings with a single label for all of their length.
        """
        if self.from_first:
            raise UserError(f"split {self.split!r}: each recording is one sample from its start, without a history")
        found = copy.copy(self)
        if self.sequential:
            # All windows of a recording, played once, give each of its labels all that came before it.
            found._windows = self._windows if windows is None else history_windows(self._windows, windows)
        else:
            found._windows = windows_before(self._windows, windows, [clip.start_us for clip in self._clips])
        found.sequential = True
        return found

    @property
    def from_first(self) -> bool:
        """Whether recordings are one sample each, from their first event on."""
        return any(clip.from_first is not None for clip in self._clips)

    @property
    def histories(self) -> np.ndarray:
        """int64 [labels, 2]: windows of each label since the state was reset, and the time that they cover [us]."""
        return history_lengths(self._windows)

    def seed_index(self, index: int) -> int:
        return int(self._windows["clip"][index]) if self.sequential else index

    def load(self, index: int, rng: np.random.Generator, epochs_left: int | None = None) -> Sample:
        number, t0_us, t1_us, image_id, start = self._windows[index].tolist()
        clip, input = self._clips[number], self.input
        rows = clip.boxes_at(t1_us if image_id else None)
        change = None if self._augment is None else self._augment.draw(rng)
        reader = self._open.use(number, clip.reader)
        if clip.from_first is not None:
            t0_us, t1_us = clip.from_first.window(reader, input.num_steps)
        frames = input.frames(reader, t0_us, t1_us, change)
        boxes, labels = _xyxy(rows) / input.factor, rows["class_id"].astype(np.int64)
        if change is not None:
            frames, boxes, labels = change.frames(frames, boxes, labels, input.representation.empty)
        if input.representation.gray_images:
            place = input.placement(clip.sensor)
            boxes = boxes * ((place.scale_x, place.scale_y) * 2) + ((place.left, place.top) * 2)
        return Sample(
            x=input.fit(frames),
            boxes=torch.from_numpy(boxes.astype(np.float32)),
            labels=torch.from_numpy(labels),
            image_id=image_id,
            original_size=clip.sensor,
            placement=input.placement(clip.sensor),
            labelled=image_id > 0,
            start=start,
        )

    def view(self, x: torch.Tensor) -> torch.Tensor:
        return self.input.view(x)

    def ground_truth(self) -> dict[str, Any]:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        labelled = self._windows[self._windows["image_id"] > 0]
        for number, t_us, image_id in zip(*(labelled[k].tolist() for k in ("clip", "t1", "image_id")), strict=True):
            clip = self._clips[number]
            height, width = clip.sensor
            image = {"id": image_id, "width": width, "height": height, "file_name": clip.file_name}
            images.append({**image, "clip": clip.name, "t_us": t_us, "start_us": clip.start_us})
            for row in clip.boxes_at(t_us):
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
            place = self.input.placement(clip.sensor)
            sizes.append(np.stack([clip.boxes["w"] * place.scale_x, clip.boxes["h"] * place.scale_y], axis=1))
        return np.concatenate(sizes).astype(np.float32)


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
