"""COCO json labels: `root/annotations/instances_{split}.json` with `root/{split}/`, or files named in the config."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import MissingSplit
from .image_dataset import OBJECT, ImageDataset, Record, split_names
from .problems import Problem
from .registry import register_dataset
from .values import flag, is_side, is_whole

LABELS = ("annotations/instances_{}.json", "annotations/{}.json", "{}/_annotations.coco.json", "{}.json")
PICTURES = ("{}", "images/{}", "images", ".")


@register_dataset("coco")
class Coco(ImageDataset):
    """Any data set in COCO's detection format. Arguments of `ImageDataset`, and

    annotations: {split: json file}, relative to `root`; a split not named there is looked for in `LABELS`
    images:      {split: folder}, relative to `root`; else the first of `PICTURES` that holds the first listed picture

    A split is also looked for by its other `split_names`. Labels 0..K-1 are the json's categories in order of their
    ids, which may have gaps. Objects with `iscrowd` or `difficult` are no training targets.
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

    def _places(self, argument: str, named: Mapping[str, str], places: Sequence[str]) -> list[str]:
        """Where to look, relative to `root`: where the `argument` of that name says, else at `places`."""
        if not isinstance(named, Mapping) or not all(isinstance(place, str) for place in named.values()):
            raise ValueError(f"{argument} = {named}: give a path for each split, as in {{{self.split}: path}}")
        if self.split in named:
            return [named[self.split]]
        return [place.format(name) for place in places for name in split_names(self.split)]

    def _find_labels(self, named: Mapping[str, str]) -> Path:
        tried = self._places("annotations", named, LABELS)
        for place in tried:
            if (self.root / place).is_file():
                return self.root / place
        remedy = f"Name it: annotations: {{{self.split}: path relative to {self.root}}}"
        raise MissingSplit(f"split {self.split!r}: {self.root} holds no label file {', '.join(tried)}. {remedy}")

    def _read(self) -> dict[str, list[dict[str, Any]]]:
        """The json, its three lists known to be there and their entries to be dicts with the keys that are read."""
        try:
            content = json.loads(self.file.read_bytes(), object_hook=_without_outline)
        except (ValueError, RecursionError) as error:
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
            number, name = entry["id"], entry["name"]
            if not is_whole(number) or number in found:
                self._fatal("bad category id", f"category {name!r}", repr(number), "Give each its own whole number")
            elif not isinstance(name, str | int | float) or not str(name) or str(name) in found.values():
                remedy = "Give each its own; remove a category that only repeats another one's name"
                self._fatal("bad category name", f"category {number}", repr(name), remedy)
            else:
                found[number] = str(name)
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
            if not is_whole(entry["id"]) or entry["id"] in seen:
                self._fatal("bad image id", record, repr(entry["id"]), "Give each picture its own whole number")
            elif not isinstance(entry["file_name"], str) or not entry["file_name"]:
                self._fatal("bad file name", f"image {entry['id']}", repr(entry["file_name"]), "Give it as a string")
            elif not all(map(is_side, size)):
                self._fatal("bad image size", record, size, "Give width and height in whole pixels")
            else:
                seen.add(entry["id"])
                whole.append(entry)
        folder = self._find_pictures(named, whole[0]["file_name"] if whole else "")
        paths = [str(folder / entry["file_name"]) for entry in whole]
        records = [
            Record(entry["id"], path, entry["width"], entry["height"], np.zeros(0, OBJECT))
            for entry, path, present in zip(whole, paths, self._present(paths, self.file), strict=True)
            if present
        ]
        return records, seen

    def _find_pictures(self, named: Mapping[str, str], first: str) -> Path:
        tried = [self.root / place for place in self._places("images", named, PICTURES)]
        for folder in tried:
            if (folder / first).is_file():
                return folder
        return next((folder for folder in tried if folder.is_dir()), tried[0])

    def _read_objects(self, entries: list[dict[str, Any]], known: set[int]) -> None:
        """Check all annotations and hand each picture its own."""
        label_of = {category["id"]: label for label, category in enumerate(self.categories)}
        index_of = {record.image_id: index for index, record in enumerate(self.records)}
        rows: list[tuple[Any, ...]] = []
        origin: list[tuple[int, dict[str, Any]]] = []  # of each row: index of its record, and its annotation
        seen: set[Any] = set()
        for i, entry in enumerate(entries):
            where = f"annotation {entry.get('id', f'at place {i}')}"
            image_id, category_id, box = entry["image_id"], entry["category_id"], _numbers(entry["bbox"])
            crowd, difficult = flag(entry.get("iscrowd")), flag(entry.get("difficult"))
            if not is_whole(image_id) or image_id not in known:
                remedy = "Give the id of an entry of `images`, a whole number, or remove it"
                self._fatal("unknown image", where, repr(image_id), remedy)
            elif not is_whole(category_id) or category_id not in label_of:
                remedy = "Give the id of an entry of `categories`, a whole number, or add one"
                self._fatal("unknown category", where, repr(category_id), remedy)
            elif len(box) != 4:
                self._fatal("bad bbox", where, str(entry["bbox"])[:200], "Give [x, y, width, height] in pixels")
            elif crowd is None or difficult is None:
                shown = {key: entry.get(key) for key in ("iscrowd", "difficult")}
                self._fatal("bad flag", where, shown, "Give 0 or 1")
            elif image_id in index_of:
                rows.append((box, label_of[category_id], _area(entry), crowd, difficult))
                origin.append((index_of[image_id], entry))
            if "id" in entry:
                number = entry["id"] if is_whole(entry["id"]) else repr(entry["id"])
                if number in seen:
                    remedy = "All are kept, under new ids; was one file merged into another twice?"
                    self.problems.add(Problem("repeated annotation id", self.file, where, number, remedy))
                seen.add(number)

        objects = np.array(rows, OBJECT)
        objects["box"][:, 2:] += objects["box"][:, :2]
        owner = np.array([record for record, _ in origin], np.int64)

        def describe(i: int) -> tuple[Path, str, str]:
            record, entry = self.records[owner[i]], origin[i][1]
            name = f"annotation {entry.get('id', '?')} of {Path(record.path).name}"
            return self.file, name, f"x, y, w, h = {entry['bbox']} on {record.width}x{record.height}"

        keep = self._place(objects, owner, describe)
        for i in np.flatnonzero(keep & (objects["area"] == 0)).tolist():
            file, name, _ = describe(i)
            value = str(origin[i][1]["area"])[:200]
            self.problems.add(Problem("area is no positive number", file, name, value, "The box's is taken"))


def _area(entry: dict[str, Any]) -> float:
    """As stated: it is the outline's, and decides between small, medium and large in COCO's AP. NaN where none is, 0
    where it is no positive number."""
    if entry.get("area") is None:
        return math.nan
    area = _numbers([entry["area"]])
    return area[0] if area and 0 < area[0] < math.inf else 0.0


def _numbers(values: object) -> list[float]:
    """A list of numbers as floats; an empty one for anything else."""
    if not isinstance(values, list) or not {int, float}.issuperset(map(type, values)):
        return []
    try:
        return list(map(float, values))
    except OverflowError:
        return []


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """Outlines are most of a COCO file and not used: dropped while it is read, it takes a fraction of the memory."""
    entry.pop("segmentation", None)
    return entry
