"""Prophesee Gen1 dataset, and any folder in its layout: `root/{train,val,test}/*_td.dat` with `*_bbox.npy`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry import UserError

from ..problems import Problems
from ..recordings import Tally
from ..recordings.unpacking import MAX_UNPACKED_MB
from ..registry import register_dataset
from .clip import Clip
from .dataset import EventDataset
from .gen1_files import Gen1Files
from .label_rules import build_label_rules
from .split_folders import split_folders

log = logging.getLogger(__name__)


@register_dataset("gen1")
class Gen1(EventDataset):
    """Recordings in the layout of Prophesee's automotive datasets. Arguments of `EventDataset`, and

    labels:      filter of the boxes: a name (all, rvt, rvt_1mpx, last_of_track, eas_snn) or rules such as
                 {min_side: 10, from_ms: 500}: see `LabelRules`. `left_out` counts the removed ones
    splits:      folders of each split, {train: [train, val], val: test}, or a name (folders, spikeyolo, eas_snn). A
                 split that is not in it is the folder of its name, or several, "train+val"
    classes:     names of the classes
    label_names: names of class ids 0, 1, ... in the label files, where they are not `classes`; boxes of other classes
                 are left out
    sensor:      (height, width) of recordings other than `.dat`; None: that of the first one in each folder. They are
                 opened at their first read, since that takes a pass over the file; another sensor is an error then
    shift_clock: shift the clock of each recording to begin at its first event, as Prophesee's SDK does by default, for
                 labels that were made with it
    max_unpacked_mb: limit in MiB of an unpacked `.npz`, or of one chunk of an HDF5 file, per worker

    A clip with an empty label file is one sample without boxes: the last window of the clip. A clip whose labels are
    all invalid or removed by the rules gives no sample.
    """

    def __init__(
        self,
        split: str,
        *,
        root: str | Path,
        labels: str | Mapping[str, Any] = "all",
        splits: str | Mapping[str, Any] = "folders",
        classes: Sequence[str] = ("car", "pedestrian"),
        label_names: Sequence[str] | None = None,
        sensor: Sequence[int] | None = None,
        shift_clock: bool = False,
        max_unpacked_mb: int = MAX_UNPACKED_MB,
        allow_missing: bool = False,
        problems: Problems | None = None,
        **events: Any,
    ):
        problems = Problems() if problems is None else problems
        files: dict[str, Any] = {"label_names": label_names, "sensor": sensor, "shift_clock": shift_clock}
        files |= {"max_unpacked_mb": max_unpacked_mb, "allow_missing": allow_missing}
        self._files = Gen1Files(build_label_rules(labels), split.startswith("train"), classes, problems, **files)
        self._max_unpacked_mb, self.left_out = max_unpacked_mb, self._files.left_out
        clips: dict[str, Clip] = {}
        for folder in split_folders(splits, split):
            for clip in self._files.read(Path(root) / folder):
                if clip.name in clips:  # folders that are joined may hold clips of one name
                    clip.name = f"{folder}/{clip.name}"
                clips[clip.name] = clip
        if self._files.broken and not clips:
            raise self._files.broken  # more helpful than "no label"
        if self.left_out:
            counts = "; ".join(f"{count} {what}" for what, count in self.left_out.items())
            if not any(len(clip.times) for clip in clips.values()):
                remedy = (
                    "Look at `labels` and `classes`, and at `shift_clock` where label times count from another start"
                )
                raise UserError(f"split {split!r}: no label time is kept. Labels left out: {counts}. {remedy}")
            log.info("%s: split %r: labels left out: %s", root, split, counts)
        super().__init__(split, list(clips.values()), classes, self._files.expected, problems=problems, **events)

    @property
    def recordings(self) -> list[Path]:
        """Files of the clips, including those that could not be opened."""
        return list(self._files.files)

    def audit(self, recording: Path, problems: Problems) -> Tally | None:
        return self._audit(recording, problems, self._files.sensors.get(recording.parent), self._max_unpacked_mb)
