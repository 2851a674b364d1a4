"""PASCAL VOC datasets: `root/ImageSets/Main/{split}.txt`, `root/Annotations/*.xml` and `root/JPEGImages/`, or xml files
beside their images."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from registry import UserError, none_of

from ..files import regular_only
from ..problems import Problem
from ..registry import register_dataset
from ..type_checks import class_list, flag, is_side
from .dataset import ImageDataset
from .label_numbers import LabelNumbers
from .record import OBJECT, Record
from .voc_coordinates import CHOICES, from_zero
from .voc_folder import all_labelled, label_files, labelled_images

log = logging.getLogger(__name__)

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Object:
    """name: of the entry in `file`; corners: xmin, ymin, xmax, ymax as in the file"""

    file: Path
    name: str
    corners: list[float]
    label: int
    difficult: bool


@register_dataset("voc")
class Voc(ImageDataset):
    """Any dataset in VOC's xml files. Arguments of `ImageDataset`, and

    class_names: label k is class_names[k]. None: VOC's 20 classes if no others occur, otherwise all names in the xml
                 files of the folder, sorted
    coordinates: "from_1": 1-based inclusive pixels, read as [xmin - 1, ymin - 1, xmax, ymax]; "from_0": continuous,
                 used as they are; "auto": from 1, unless the set has both fractions and boxes that begin below 1

    `split` is the name of a list in ImageSets/Main or, where there is none, of a folder with images and xml files,
    together or in folders of their own (`voc_folder.py`). "VOC2007/trainval+VOC2012/trainval" joins lists of several
    folders below `root`. Objects marked difficult are no training targets.
    """

    own_splits = True

    def __init__(
        self, split: str, *, class_names: Sequence[str] | None = None, coordinates: str = "auto", **common: Any
    ):
        super().__init__(split, **common)
        if coordinates not in CHOICES:
            raise UserError(none_of(f"coordinates = {coordinates!r}", coordinates, CHOICES))
        self._unreadable: set[Path] = set()
        if self._shares is None:
            lists, listed = labelled_images(self.root, split, self.problems)
        else:
            lists, listed = self.root, all_labelled(self.root, self.problems)
        given = class_names is not None
        self.class_names = class_list(class_names, "class_names") if given else self._find_classes(split)
        self.categories = [{"id": k, "name": name} for k, name in enumerate(self.class_names, 1)]
        present = self._present([entry.image for entry in listed], lists)
        self.records = []
        found: list[_Object] = []
        owner: list[int] = []
        for (image_id, entry), here in zip(enumerate(listed, 1), present, strict=True):
            root = self._parse(entry.label) if here else None
            if root is not None:
                objects = self._read_objects(root, entry.label)
                owner += [len(self.records)] * len(objects)
                found += objects
                self.records.append(Record(image_id, entry.image, *_size(root), np.zeros(0, OBJECT)))
        self._convert(found, np.array(owner, np.int64), coordinates, lists)

    def _find_classes(self, split: str) -> list[str]:
        parts = ["/"] if self._shares else split.split("+")
        folders = dict.fromkeys(self.root / part.strip().rpartition("/")[0].strip("/") for part in parts)
        names: set[str] = set()
        for file in (file for folder in folders for file in label_files(folder)):
            root = self._parse(file)
            names |= {_text(o, "name") for o in root.findall("object")} if root is not None else set()
        names.discard("")  # an object without a name is an error where it is read
        if names <= set(VOC_CLASSES):
            return list(VOC_CLASSES)
        return sorted(names)

    def _parse(self, file: Path) -> ET.Element | None:
        try:
            with open(file, "rb", opener=regular_only) as content:
                root = ET.parse(content).getroot()
            if root.tag != "annotation":
                raise UserError(f"its outermost tag is <{root.tag}>, not <annotation>")
            return root
        except (ET.ParseError, OSError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
            remedy = "Repair or export it again; for an image without objects write one without <object>"
            if file not in self._unreadable:
                self._fatal("unreadable label file", file, "", error, remedy)
            self._unreadable.add(file)
            return None

    def _fatal(self, kind: str, file: Path, record: str, value: object, remedy: str) -> None:
        self.problems.add(Problem(kind, file, record, value, remedy, fatal=True))

    def _read_objects(self, root: ET.Element, file: Path) -> list[_Object]:
        found = []
        for i, entry in enumerate(root.findall("object")):
            name, box, difficult = _text(entry, "name"), _corners(entry), flag(_text(entry, "difficult"))
            if name not in self.class_names:
                remedy = f"Correct it, or name it in class_names; they are {self.class_names}"
                self._fatal("unknown class", file, f"object {i}", repr(name), remedy)
            elif box is None:
                remedy = "It needs xmin, ymin, xmax, ymax in pixels"
                self._fatal("bad bndbox", file, f"object {i} ({name})", _shown(entry), remedy)
            elif difficult is None:
                self._fatal("bad difficult", file, f"object {i} ({name})", _text(entry, "difficult"), "Give 0 or 1")
            else:
                found.append(_Object(file, f"object {i} ({name})", box, self.class_names.index(name), difficult))
        return found

    def _convert(self, found: list[_Object], owner: np.ndarray, coordinates: str, lists: Path) -> None:
        """Convert boxes to xyxy from 0, and assign each to the record of index `owner` [N]."""
        corners = np.array([entry.corners for entry in found], np.float64).reshape(-1, 4)
        continuous, said = from_zero(corners, coordinates)
        if said:
            self.problems.add(Problem("VOC coordinates from 0", lists, "", *said))
        boxes = corners - (0 if continuous else (1, 1, 0, 0))
        # Equal corners would give a box of one pixel; labelling tools write them for a click without a drag.
        clicks = (corners[:, 2:] <= corners[:, :2]).any(1)
        boxes[clicks, 2:] = boxes[clicks, :2]
        if not continuous and (zeros := (corners[:, :2] == 0).any(1).sum()):
            # One warning for all of them, not a problem for each.
            boxes[:, :2] = np.where(corners[:, :2] == 0, 0, boxes[:, :2])
            log.warning("%s: %d boxes begin at pixel 0, yet VOC counts from 1: cut to the edge", lists, zeros)
        objects = np.zeros(len(found), OBJECT)
        objects["box"], objects["area"] = boxes, np.nan
        objects["label"] = [entry.label for entry in found]
        objects["difficult"] = [entry.difficult for entry in found]
        records = self.records

        def describe(i: int) -> tuple[Path, str, str]:
            entry, record = found[i], records[owner[i]]
            shown = ", ".join(f"{v:g}" for v in entry.corners)
            return entry.file, entry.name, f"xmin, ymin, xmax, ymax = {shown} on {record.width}x{record.height}"

        self._settle(objects, owner, describe, lists)


def _size(root: ET.Element) -> tuple[int, int]:
    """Labelled (width, height); (0, 0) where it is absent or invalid."""
    sides = LabelNumbers().whole([_text(root, f"size/{side}") for side in ("width", "height")], "size")
    width, height = sides
    return (width, height) if is_side(width) and is_side(height) else (0, 0)


def _text(entry: ET.Element, tag: str) -> str:
    return (entry.findtext(tag) or "").strip()


def _corners(entry: ET.Element) -> list[float] | None:
    try:
        return [float(_text(entry, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
    except ValueError:
        return None


def _shown(entry: ET.Element) -> str:
    """The box as text, one level deep: deeply nested tags would exceed Python's recursion limit."""
    box = entry.find("bndbox")
    sides = [] if box is None else [f"<{side.tag}>{(side.text or '').strip()}</{side.tag}>" for side in box]
    return "none" if box is None else f"<bndbox>{''.join(sides)}</bndbox>"[:200]
