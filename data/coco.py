"""COCO json labels: `root/annotations/instances_{split}.json` with `root/{split}/`, or files named in the config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import MissingSplit
from .image_dataset import OBJECT, ImageDataset, Record, valid_boxes
from .problems import Problem
from .registry import register_dataset

LABELS = ("annotations/instances_{}.json", "annotations/{}.json", "{}/_annotations.coco.json", "{}.json")
PICTURES = ("{}", "images/{}", "images", ".")


@register_dataset("coco")
class Coco(ImageDataset):
    """Any data set in COCO's detection format. Arguments of `ImageDataset`, and

    annotations: {split: json file}, relative to `root`; a split not named there is looked for in `LABELS`
    images:      {split: folder}, relative to `root`; else the first of `PICTURES` that holds the first listed picture

    The split `train` is also looked for as `train2017`, `val` as `val2017`. Labels 0..K-1 are the json's categories in
    order of their ids, which may have gaps. Objects with `iscrowd` or `difficult` are no training targets.
    """

    def __init__(
        self,
        split: str,
        *,
        annotations: Mapping[str, str] | None = None,
        images: Mapping[str, str] | None = None,
        **common: Any,
    ):
        super().__init__(split, **common)
        self.file = self._find_labels(annotations or {})
        content = self._read()
        self.categories = self._read_categories(content["categories"])
        self.class_names = [category["name"] for category in self.categories]
        self.records, known = self._read_images(content["images"], images or {})
        self._read_objects(content["annotations"], known)

    def _fatal(self, kind: str, record: str, value: object, remedy: str) -> None:
        self.problems.add(Problem(kind, self.file, record, value, remedy, fatal=True))

    def _names(self) -> list[str]:
        return [self.split, f"{self.split}2017"]

    def _find_labels(self, named: Mapping[str, str]) -> Path:
        if self.split in named:
            tried = [self.root / named[self.split]]
        else:
            tried = [self.root / place.format(name) for name in self._names() for place in LABELS]
        for path in tried:
            if path.is_file():
                return path
        remedy = f"Name it: annotations: {{{self.split}: path relative to {self.root}}}"
        raise MissingSplit(f"split {self.split!r}: no label file at {', '.join(map(str, tried))}. {remedy}")

    def _read(self) -> dict[str, list[dict[str, Any]]]:
        """The json, its three lists known to be there and their entries to be dicts with the keys that are read."""
        try:
            content = json.loads(self.file.read_bytes(), object_hook=_without_outline)
        except ValueError as error:
            raise ValueError(f"{self.file}: not a json file: {error}. Export or copy the labels again") from error
        needed = {
            "categories": ("id", "name"),
            "images": ("id", "file_name", "width", "height"),
            "annotations": ("image_id", "category_id", "bbox"),
        }
        out = {}
        for name, keys in needed.items():
            entries = content.get(name) if isinstance(content, dict) else None
            if not isinstance(entries, list):
                remedy = f"COCO detection labels hold the lists {', '.join(needed)}"
                raise ValueError(f"{self.file}: has no list {name!r}. {remedy}")
            whole = [isinstance(entry, dict) and all(key in entry for key in keys) for entry in entries]
            for i, entry in enumerate(entries):
                if not whole[i]:
                    self._fatal("incomplete entry", f"{name}[{i}]", str(entry)[:200], f"It needs {', '.join(keys)}")
            out[name] = [entry for entry, ok in zip(entries, whole, strict=True) if ok]
        return out

    def _read_categories(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found: dict[int, str] = {}
        for entry in entries:
            if not isinstance(entry["id"], int) or entry["id"] in found:
                self._fatal("bad category id", f"category {entry['name']!r}", entry["id"], "Give each its own number")
            else:
                found[entry["id"]] = str(entry["name"])
        if not found:
            raise ValueError(f"{self.file}: names no category. Add the classes to `categories`")
        return [{"id": k, "name": found[k]} for k in sorted(found)]

    def _read_images(self, entries: list[dict[str, Any]], named: Mapping[str, str]) -> tuple[list[Record], set[int]]:
        """Records of the pictures that are there, without objects yet; ids of all that are listed."""
        whole = []
        seen: set[int] = set()
        for entry in entries:
            size = entry["width"], entry["height"]
            record = f"image {entry['file_name']}"
            if not isinstance(entry["id"], int) or entry["id"] in seen:
                self._fatal("bad image id", record, repr(entry["id"]), "Give each picture its own whole number")
            elif not all(isinstance(side, int) and side > 0 for side in size):
                self._fatal("bad image size", record, size, "Give width and height in whole pixels")
            else:
                seen.add(entry["id"])
                whole.append(entry)
        folder = self._find_pictures(named, str(whole[0]["file_name"]) if whole else "")
        paths = [str(folder / entry["file_name"]) for entry in whole]
        records = [
            Record(entry["id"], path, entry["width"], entry["height"], np.zeros(0, OBJECT))
            for entry, path, present in zip(whole, paths, self._present(paths, self.file), strict=True)
            if present
        ]
        return records, seen

    def _find_pictures(self, named: Mapping[str, str], first: str) -> Path:
        if self.split in named:
            tried = [self.root / named[self.split]]
        else:
            tried = [self.root / place.format(name) for place in PICTURES for name in self._names()]
        for folder in tried:
            if (folder / first).is_file():
                return folder
        return next((folder for folder in tried if folder.is_dir()), tried[0])

    def _read_objects(self, entries: list[dict[str, Any]], known: set[int]) -> None:
        """Check all annotations and hand each picture its own."""
        label_of = {category["id"]: label for label, category in enumerate(self.categories)}
        record_of = {record.image_id: record for record in self.records}
        whole = []
        seen: set[str] = set()
        for i, entry in enumerate(entries):
            where = f"annotation {entry.get('id', f'at place {i}')}"
            image_id, category_id, box = entry["image_id"], entry["category_id"], entry["bbox"]
            if not isinstance(image_id, int) or image_id not in known:
                self._fatal("unknown image", where, repr(image_id), "Remove it, or list its picture in `images`")
            elif not isinstance(category_id, int) or category_id not in label_of:
                self._fatal("unknown category", where, repr(category_id), "Correct it, or list it in `categories`")
            elif not (isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box)):
                self._fatal("bad bbox", where, box, "Give [x, y, width, height] in pixels")
            elif image_id in record_of:
                whole.append(entry)
            if where in seen:
                remedy = "All are kept, under new ids; was one file merged into another twice?"
                self.problems.add(Problem("repeated annotation id", self.file, where, entry["id"], remedy))
            seen.add(where)

        records = [record_of[entry["image_id"]] for entry in whole]
        corners = np.array([entry["bbox"] for entry in whole], np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        sizes = np.array([(record.width, record.height) for record in records]).reshape(-1, 2)

        def describe(i: int) -> tuple[Path, str, str]:
            record, entry = records[i], whole[i]
            name = f"annotation {entry.get('id', '?')} of {Path(record.path).name}"
            return self.file, name, f"x, y, w, h = {entry['bbox']} on {record.width}x{record.height}"

        boxes, keep = valid_boxes(corners, sizes, describe, self.problems)
        objects: dict[int, list[tuple[Any, ...]]] = {}
        for i in np.flatnonzero(keep).tolist():
            entry, (x1, y1, x2, y2) = whole[i], boxes[i].tolist()
            # COCO's area is that of the outline, and decides between small, medium and large in its AP.
            area = entry.get("area")
            area = float(area) if isinstance(area, int | float) and area > 0 else (x2 - x1) * (y2 - y1)
            flags = bool(entry.get("iscrowd", 0)), bool(entry.get("difficult", 0))
            row = ((x1, y1, x2, y2), label_of[entry["category_id"]], area, *flags)
            objects.setdefault(entry["image_id"], []).append(row)
        for image_id, rows in objects.items():
            record_of[image_id].objects = np.array(rows, OBJECT)


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """Outlines are most of a COCO file and not used: dropped while it is read, it takes a fraction of the memory."""
    entry.pop("segmentation", None)
    return entry
