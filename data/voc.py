"""PASCAL VOC labels: `root/ImageSets/Main/{split}.txt`, `root/Annotations/*.xml` and `root/JPEGImages/`, or xml files
beside or near their images."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .image_dataset import OBJECT, ImageDataset, Record, valid_boxes
from .image_file import image_header
from .problems import Problem
from .registry import register_dataset
from .regular_file import regular_only
from .values import class_list, flag, is_side
from .voc_folder import all_labelled, label_files, labelled_images

log = logging.getLogger(__name__)

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@register_dataset("voc")
class Voc(ImageDataset):
    """Any data set in VOC's xml files. Arguments of `ImageDataset`, and

    class_names: label k is class_names[k]. None: VOC's 20 classes if no others occur, else all names that occur in any
                 xml file of the folder, sorted

    `split` names a list in ImageSets/Main or, where there is none, the folder that images and xml files lie in, each
    in a folder of its own or together (`voc_folder.py`). "VOC2007/trainval+VOC2012/trainval" joins lists of several
    folders below `root`. Boxes on disk count pixels from 1 and include the last one; here [xmin - 1, ymin - 1, xmax,
    ymax]. Objects marked difficult are no training targets.
    """

    own_splits = True

    def __init__(self, split: str, *, class_names: Sequence[str] | None = None, **common: Any):
        super().__init__(split, **common)
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
        self._from_zero = 0  # boxes whose tool counted pixels from 0
        for image_id, entry in enumerate(listed, 1):
            if present[image_id - 1]:
                record = self._read_label(entry.label, image_id, entry.image)
                self.records += [record] if record else []
        if self._from_zero:
            log.warning("%s: %d boxes begin at pixel 0, yet VOC counts from 1: cut to the edge", lists, self._from_zero)

    def _find_classes(self, split: str) -> list[str]:
        parts = ["/"] if self._shares else split.split("+")
        folders = dict.fromkeys(self.root / part.strip().rpartition("/")[0].strip("/") for part in parts)
        names: set[str] = set()
        for file in (file for folder in folders for file in label_files(folder)):
            root = self._parse(file)
            names |= {_text(o, "name") for o in root.findall("object")} if root is not None else set()
        names.discard("")  # an object without a name, which is refused where it is used
        if names <= set(VOC_CLASSES):
            return list(VOC_CLASSES)
        return sorted(names)

    def _parse(self, file: Path) -> ET.Element | None:
        try:
            with open(file, "rb", opener=regular_only) as content:
                root = ET.parse(content).getroot()
            if root.tag != "annotation":
                raise ValueError(f"its outermost tag is <{root.tag}>, not <annotation>")
            return root
        except (ET.ParseError, OSError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
            remedy = "Repair or export it again; for a picture without objects write one without <object>"
            if file not in self._unreadable:
                self._fatal("unreadable label file", file, "", error, remedy)
            self._unreadable.add(file)
            return None

    def _fatal(self, kind: str, file: Path, record: str, value: object, remedy: str) -> None:
        self.problems.add(Problem(kind, file, record, value, remedy, fatal=True))

    def _read_label(self, file: Path, image_id: int, path: str) -> Record | None:
        root = self._parse(file)
        if root is None:
            return None
        try:
            width, height = self._size(root, file, path)
        except ValueError as error:
            self._fatal("no size", file, "size", error, "Give the size in the label, or repair the picture")
            return None
        rows, raw, names = [], [], []
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
                rows.append((self.class_names.index(name), difficult))
                raw.append(box)
                names.append(f"object {i} ({name})")

        corners = np.array(raw, np.float64).reshape(-1, 4)
        boxes = corners - (1, 1, 0, 0)
        # Equal corners would be one pixel by the rule; labelling tools write them for a click without a drag.
        clicks = (corners[:, 2:] <= corners[:, :2]).any(1)
        boxes[clicks, 2:] = boxes[clicks, :2]
        # Many tools count from 0: that pixel is worth one line for all, not a report for each.
        self._from_zero += int((corners[:, :2] == 0).any(1).sum())
        boxes[:, :2] = np.where(corners[:, :2] == 0, 0, boxes[:, :2])

        def describe(i: int) -> tuple[Path, str, str]:
            shown = ", ".join(f"{v:g}" for v in raw[i])
            return file, names[i], f"xmin, ymin, xmax, ymax = {shown} on {width}x{height}"

        boxes, keep = valid_boxes(boxes, np.tile((width, height), (len(boxes), 1)), describe, self.problems)
        objects = np.zeros(int(keep.sum()), OBJECT)
        objects["box"] = boxes[keep]
        objects["area"] = (boxes[keep, 2:] - boxes[keep, :2]).prod(1)
        objects["label"] = [label for (label, _), ok in zip(rows, keep, strict=True) if ok]
        objects["difficult"] = [difficult for (_, difficult), ok in zip(rows, keep, strict=True) if ok]
        return Record(image_id, path, width, height, objects)

    def _size(self, root: ET.Element, file: Path, path: str) -> tuple[int, int]:
        """(width, height) as labelled; where the label has none, the picture's own."""
        width, height = (_text(root, f"size/{side}") for side in ("width", "height"))
        if width.isdecimal() and height.isdecimal() and is_side(int(width)) and is_side(int(height)):
            return int(width), int(height)
        found, _ = image_header(path)
        value, remedy = f"width {width!r}, height {height!r}", f"The picture's {found[0]}x{found[1]} is taken"
        self.problems.add(Problem("label without picture size", file, "size", value, remedy))
        return found


def _text(entry: ET.Element, tag: str) -> str:
    return (entry.findtext(tag) or "").strip()


def _corners(entry: ET.Element) -> list[float] | None:
    try:
        return [float(_text(entry, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
    except ValueError:
        return None


def _shown(entry: ET.Element) -> str:
    """What the box holds, one level deep: writing out deeply nested tags would exceed Python's stack."""
    box = entry.find("bndbox")
    sides = [] if box is None else [f"<{side.tag}>{(side.text or '').strip()}</{side.tag}>" for side in box]
    return "none" if box is None else f"<bndbox>{''.join(sides)}</bndbox>"[:200]
