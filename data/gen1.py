"""Gen1 and any folder like it: `root/{train,val,test}/*_td.dat` with `*_bbox.npy`; a sample is one label time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import MissingSplit
from .event_dataset import Clip, EventDataset
from .events import DatReader, open_dat, read_boxes
from .problems import Problem, Problems
from .registry import register_dataset

RECORDING, LABELS = "_td.dat", "_bbox.npy"


@register_dataset("gen1")
class Gen1(EventDataset):
    """Recordings in the files of Prophesee's automotive data sets. Arguments of `EventDataset`, and

    labels_from_ms: label times before this are no part of the split, neither as samples nor in `ground_truth`
    classes:        names of class ids 0, 1, ...

    A clip with an empty label file is one sample without boxes: the last window of the clip. A clip whose labels were
    all dropped as invalid is no sample.
    """

    def __init__(
        self,
        split: str,
        *,
        root: str | Path,
        labels_from_ms: float = 0.0,
        classes: Sequence[str] = ("car", "pedestrian"),
        allow_missing: bool = False,
        problems: Problems | None = None,
        **events: Any,
    ):
        self.folder = Path(root) / split
        self._problems = Problems() if problems is None else problems
        self._expected = 0
        self._from_us, self._num_classes, self._allow_missing = round(labels_from_ms * 1e3), len(classes), allow_missing
        clips = [clip for stem in self._stems() if (clip := self._read_clip(stem)) is not None]
        super().__init__(split, clips, classes, self._expected, problems=self._problems, **events)

    def _stems(self) -> list[str]:
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

    def _read_clip(self, stem: str) -> Clip | None:
        recording, labels = self.folder / f"{stem}{RECORDING}", self.folder / f"{stem}{LABELS}"
        if not labels.is_file():
            remedy = f"Copy {labels.name} beside it; for a clip without objects save an empty array under that name"
            self._problems.add(Problem("recording without labels", recording, "", "no label file", remedy, fatal=True))
            return None
        present = recording.is_file()
        if not present and not self._allow_missing:
            raise ValueError(f"{recording}: no such file, yet {labels.name} labels it. Copy it, or set allow_missing")
        reader = self._readable(recording) if present else None
        height, width = (1 << 14, 1 << 14) if reader is None else reader.sensor_size
        before = len(self._problems.items)
        boxes = read_boxes(labels, width, height, self._num_classes, self._problems)
        negative = len(boxes) == 0 and len(self._problems.items) == before
        boxes = boxes[boxes["t"] >= self._from_us]
        times = np.unique(boxes["t"])
        self._expected += 1 if negative else len(times)
        if reader is None:
            return None
        if negative:
            times = np.array([reader.t_last or 1_000_000])  # the last window; of a dark recording any
            reader.close()
        return Clip(stem, f"{self.folder.name}/{recording.name}", reader, (height, width), boxes, times)

    def _readable(self, recording: Path) -> DatReader | None:
        try:
            return open_dat(recording)
        except ValueError:
            if not self._problems.collect:
                raise
            return None  # `audit_dat` says what is wrong with it
