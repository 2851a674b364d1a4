"""N-Caltech101 dataset: `Caltech101/<class>/image_0001.bin`, `Caltech101_annotations/<class>/annotation_0001.bin`.

One object and one sample per recording of about 300 ms (Orchard et al., "Converting static image datasets to spiking
neuromorphic datasets using saccades", 2015). There is no official split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from registry import UserError, none_of

from ..dataset import MissingSplit
from ..problems import Problem, Problems
from ..recordings import LazyReader, Tally, audit_events
from ..recordings.boxes import BOX_DTYPE
from ..registry import register_dataset
from ..representations.base import check_numbers
from ..split_shares import split_shares
from ..type_checks import class_list
from .clip import Clip, FromFirst
from .dataset import EventDataset

SENSOR = 180, 240  # height, width of the part of the ATIS sensor that was recorded
NOMINAL_US = 300_000  # label time in the ground truth: the length of the recordings, up to a few ms
BACKGROUND = "BACKGROUND_Google"  # recordings without annotations
SPLITS = {"train": 0.8, "val": 0.1, "test": 0.1}


@register_dataset("ncaltech101")
class NCaltech101(EventDataset):
    """Arguments of `EventDataset`, and

    window_ms:  window from the first event on; None: the whole recording, divided into equal steps
    splits:     {split: share, or file}. Shares sum up to at most 1. A file is a text file below `root` with lines such
                as `accordion/image_0001.bin`, in any folder and with any suffix
    split_seed: seed of the shares. Each class is split separately, by file names and this seed alone
    background: include BACKGROUND_Google, as samples without boxes
    classes:    names of the folders to use; None: all, sorted

    Recordings are opened at their first read, since that takes a pass over the file.
    """

    def __init__(
        self,
        split: str,
        *,
        root: str | Path,
        splits: Mapping[str, float | str] | None = None,
        split_seed: int = 0,
        background: bool = False,
        classes: Sequence[str] | None = None,
        window_ms: float | None = None,
        allow_missing: bool = False,
        problems: Problems | None = None,
        **events: Any,
    ):
        self.root = Path(root)
        problems = Problems() if problems is None else problems
        found = self._class_folders()
        names = [name for name in found if name != BACKGROUND] if classes is None else class_list(classes, "classes")
        for name in names:
            if name not in found or name == BACKGROUND:
                raise UserError(none_of(f"classes: {self.root} has no class {name!r}", name, found))
        stems = {name: self._stems(name) for name in [*names, *([BACKGROUND] if background else [])]}
        length = NOMINAL_US / 1e3 if window_ms is None else window_ms
        check_numbers("ncaltech101", 0.0, window_ms=length)
        clips, expected = [], 0
        for name, stem in _choose(stems, split, splits or SPLITS, split_seed, self.root, found):
            recording = self.root / "Caltech101" / name / f"image_{stem}.bin"
            if not recording.is_file() and not allow_missing:
                raise UserError(f"{recording}: no such file, yet it has an annotation. Copy it, or set allow_missing")
            boxes = np.zeros(0, BOX_DTYPE)
            if name != BACKGROUND:
                label = self.root / "Caltech101_annotations" / name / f"annotation_{stem}.bin"
                boxes = read_annotation(label, names.index(name), problems)
                if not len(boxes):
                    continue
            expected += 1
            if recording.is_file():
                reader, times = LazyReader(recording, SENSOR), np.array([NOMINAL_US])
                clip = Clip(f"{name}/{stem}", f"{name}/{recording.name}", reader, SENSOR, boxes, times)
                clip.from_first = FromFirst(None if window_ms is None else round(length * 1e3))
                clips.append(clip)
        if not clips:
            raise UserError(f"split {split!r}: no recording below {self.root / 'Caltech101'}. Look at `splits`")
        super().__init__(split, clips, names, expected, window_ms=length, problems=problems, **events)

    def audit(self, recording: Path, problems: Problems) -> Tally | None:
        return audit_events(recording, problems, SENSOR)

    def _class_folders(self) -> list[str]:
        folder = self.root / "Caltech101"
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder. `root` holds Caltech101 and Caltech101_annotations")
        return sorted(path.name for path in folder.iterdir() if path.is_dir())

    def _stems(self, name: str) -> list[str]:
        """Numbers of the recordings of a class, including labelled ones that are absent."""
        recordings = (self.root / "Caltech101" / name).glob("image_*.bin")
        labels = (self.root / "Caltech101_annotations" / name).glob("annotation_*.bin")
        return sorted({path.stem.partition("_")[2] for path in (*recordings, *labels)})


def read_annotation(path: Path, class_id: int, problems: Problems) -> np.ndarray:
    """The box of a recording as `BOX_DTYPE` [1], within the sensor.

    The file is int16: rows and columns of the box's corners, then these column by column (x, y, x, y, ...), then the
    same for the object's contour, which is not used. The box reaches from the least to the largest corner. None, [0],
    where it lies outside the sensor, which is added to `problems`, as is a box that was cut. A file that is absent or
    holds no such array is fatal.
    """

    def fatal(kind: str, value: object, remedy: str) -> np.ndarray:
        problems.add(Problem(kind, path, "", value, remedy, fatal=True))
        return np.zeros(0, BOX_DTYPE)

    if not path.is_file():
        return fatal("recording without labels", "no such file", "Copy the annotation, or remove the recording")
    size = path.stat().st_size
    if size % 2 or size < 4:
        return fatal("not an annotation", f"{size} bytes", "It holds numbers of two bytes: copy it again")
    values = np.fromfile(path, "<i2").astype(np.int64)
    rows, columns = values[:2].tolist()
    if rows != 2 or not 2 <= columns <= (len(values) - 2) // 2:
        value = f"a box of {rows} x {columns} numbers, {len(values) - 2} follow"
        return fatal("not an annotation", value, "It begins with 2, the number of corners, and these: copy it again")
    corners = values[2 : 2 + 2 * columns].reshape(columns, 2)
    low, high = corners.min(0), corners.max(0)
    limits = np.array(SENSOR[::-1])
    start, end = np.clip(low, 0, limits), np.clip(high, 0, limits)
    shown = f"corners {low.tolist()} to {high.tolist()}"
    if (end <= start).any():
        kind = "box without size" if (high <= low).any() else "box outside the sensor"
        problems.add(Problem(kind, path, "", shown, "The recording is left out"))
        return np.zeros(0, BOX_DTYPE)
    if (start != low).any() or (end != high).any():
        remedy = f"It is clipped to {SENSOR[1]}x{SENSOR[0]}"
        problems.add(Problem("box partly outside the sensor", path, "", shown, remedy))
    return np.array([(NOMINAL_US, *start, *(end - start), class_id, 0, 1)], BOX_DTYPE)


def _choose(
    stems: dict[str, list[str]],
    split: str,
    splits: Mapping[str, float | str],
    seed: int,
    root: Path,
    folders: Sequence[str],
) -> list[tuple[str, str]]:
    """(class, stem) of the recordings in `split`."""
    if split not in splits:
        raise MissingSplit(none_of(f"`splits` has no split {split!r}", split, splits))
    wanted = splits[split]
    if isinstance(wanted, str):
        return _listed(root / wanted, stems, folders)
    shares = split_shares({name: share for name, share in splits.items() if not isinstance(share, str)}, seed)
    chosen = []
    for name, members in stems.items():  # each class is split separately
        keys = shares.choose(split, [f"{name}/{stem}" for stem in members])
        chosen += [(name, key.rpartition("/")[2]) for key in keys]
    return chosen


def _listed(file: Path, stems: dict[str, list[str]], folders: Sequence[str]) -> list[tuple[str, str]]:
    """(class, stem) of the recordings in a list file, without those in `folders` that are not among the classes."""
    if not file.is_file():
        raise MissingSplit(f"{file}: no such file. `splits` gives the share of a split, or the file that lists it")
    known = {name: set(members) for name, members in stems.items()}
    chosen: dict[tuple[str, str], None] = {}
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        parts = line.split()[0].replace("\\", "/").split("/")
        name, stem = parts[-2] if len(parts) > 1 else "", Path(parts[-1]).stem.partition("_")[2]
        if name not in folders or not stem:
            remedy = "Write <class>/image_0001.bin, the class as its folder"
            raise UserError(f"{file}: line {number}: {line!r} names no recording. {remedy}")
        if name in known and stem not in known[name]:
            raise UserError(f"{file}: line {number}: {line!r}: no such recording, nor its annotation. Copy it")
        if name in known:
            chosen[name, stem] = None
    return list(chosen)
