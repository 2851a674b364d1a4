"""COCO json datasets: `root/annotations/instances_{split}.json` with `root/{split}/`, or files named in the config."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from registry import UserError

from ..dataset import MissingSplit
from ..files import regular_only, walk
from ..problems import Problem
from ..registry import register_dataset
from ..split_shares import ADVICE
from ..type_checks import flag, is_side, is_text
from .dataset import ImageDataset, split_names
from .label_numbers import LabelNumbers
from .label_paths import as_path, choose_folder, is_file_name, path_below
from .record import OBJECT, Record

LABELS = ("annotations/instances_{}.json", "annotations/{}.json", "{}/_annotations.coco.json", "{}.json")
_ENDS = 1 << 14  # bytes
IMAGES = ("{}", "images/{}", "images", ".")
_NO_SIZE = (None, 0, "", "0")


@register_dataset("coco")
class Coco(ImageDataset):
    """Any dataset in COCO's detection format. Arguments of `ImageDataset`, and

    annotations: {split: json file}, relative to `root`; other splits are searched in `LABELS`
    images:      {split: folder}, relative to `root`; default: the folder of `IMAGES` with most of the listed images

    With `splits` each is one path, and the only label file below `root` is the default.

    A split is also searched by its other `split_names`. Labels 0..K-1 are the json's categories in order of their ids,
    which may have gaps. Objects with `iscrowd` or `difficult` are no training targets. Numbers may be strings. Images
    lie in their folder or below it. Images without width and height get those of their file.
    """

    own_splits = True

    def __init__(
        self,
        split: str,
        *,
        annotations: Mapping[str, str] | str | None = None,
        images: Mapping[str, str] | str | None = None,
        **common: Any,
    ):
        super().__init__(split, **common)
        self._numbers = LabelNumbers()
        self.file = self._find_labels(annotations or {})
        content = self._read()
        self.categories = self._read_categories(content["categories"])
        self.class_names = [category["name"] for category in self.categories]
        self.records, known = self._read_images(content["images"], images or {})
        self._read_objects(content["annotations"], known)
        if odd := self._numbers.odd:
            value = ", ".join(f"{count} x {column}" for column, count in odd.items())
            remedy = "They are read as numbers"
            self.problems.add(Problem("numbers written as text or as 1.0", self.file, "", value, remedy))

    def _fatal(self, kind: str, record: str, value: object, remedy: str) -> None:
        self.problems.add(Problem(kind, self.file, record, value, remedy, fatal=True))

    def _places(self, argument: str, named: Mapping[str, str] | str, places: Sequence[str]) -> list[str]:
        """Candidate paths relative to `root`: from the `argument` of that name, or else from `places`."""
        if isinstance(named, str) and self._shares is not None:
            return [named]
        if not isinstance(named, Mapping) or not all(isinstance(place, str) for place in named.values()):
            raise UserError(f"{argument} = {named}: give a path for each split, as in {{{self.split}: path}}")
        if self.split in named:
            return [named[self.split]]
        beside = [os.path.relpath(self.file.parent, self.root)] if self._shares and argument == "images" else []
        return beside + [place.format(name) for place in places for name in split_names(self.split)]

    def _find_labels(self, named: Mapping[str, str] | str) -> Path:
        tried = self._places("annotations", named, LABELS)
        if self._shares is not None and not named:
            return self._only_labels()
        for place in tried:
            if (self.root / place).is_file():
                return self.root / place
        remedy = f"Name it: annotations: {{{self.split}: path relative to {self.root}}}. {ADVICE}, from one label file"
        raise MissingSplit(f"split {self.split!r}: {self.root} holds no label file {', '.join(tried)}. {remedy}")

    def _only_labels(self) -> Path:
        found = [Path(path) for path in sorted(walk(self.root)) if path.endswith(".json") and _is_coco(path)]
        if len(found) == 1:
            return found[0]
        held = ", ".join(str(path.relative_to(os.path.abspath(self.root))) for path in found) or "no label file"
        remedy = "Name the one to split, relative to it: data.args.annotations=path"
        raise UserError(f"{self.root}: holds {held}. {remedy}")

    def _read(self) -> dict[str, list[dict[str, Any]]]:
        """The json, checked: three lists, whose entries are dicts with all required keys."""
        try:
            content = json.loads(self.file.read_bytes(), object_hook=_without_outline)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.file}: not a json file: {error}. Export or copy the labels again") from error
        needed = {
            "categories": {"id", "name"},
            "images": {"id", "file_name"},
            "annotations": {"image_id", "category_id", "bbox"},
        }
        out = {}
        for name, keys in needed.items():
            entries = content.get(name) if isinstance(content, dict) else None
            if not isinstance(entries, list):
                remedy = f"COCO detection labels hold the lists {', '.join(needed)}"
                raise UserError(f"{self.file}: has no list {name!r}. {remedy}")
            whole = [isinstance(entry, dict) and entry.keys() >= keys for entry in entries]
            for i, entry in enumerate(entries):
                if not whole[i]:
                    self._fatal(
                        "incomplete entry", f"{name}[{i}]", str(entry)[:200], f"It needs {', '.join(sorted(keys))}"
                    )
            out[name] = [entry for entry, ok in zip(entries, whole, strict=True) if ok]
        return out

    def _read_categories(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found: dict[int, str] = {}
        numbers = self._numbers.whole([entry["id"] for entry in entries], "category id")
        for entry, number in zip(entries, numbers, strict=True):
            name = entry["name"]
            if number is None or number in found:
                remedy = "Use a different whole number for each"
                self._fatal("bad category id", f"category {ascii(name)}", repr(entry["id"]), remedy)
            elif not isinstance(name, str | int | float) or not is_text(str(name)) or str(name) in found.values():
                remedy = "Use a different name for each; remove duplicate categories"
                self._fatal("bad category name", f"category {number}", ascii(name), remedy)
            else:
                found[number] = str(name)
        if not found:
            raise UserError(f"{self.file}: names no category. Add the classes to `categories`")
        return [{"id": k, "name": found[k]} for k in sorted(found)]

    def _read_images(
        self, entries: list[dict[str, Any]], named: Mapping[str, str] | str
    ) -> tuple[list[Record], set[int]]:
        """(records of images whose file exists, with labelled sizes and without objects; ids of all listed images)"""
        listed: dict[int, tuple[str, int, int]] = {}  # by id: file name, width, height (0: not given)
        ids = self._numbers.whole([entry["id"] for entry in entries], "image id")
        for entry, number in zip(entries, ids, strict=True):
            name, raw = entry["file_name"], (entry.get("width"), entry.get("height"))
            size = (0, 0) if all(side in _NO_SIZE for side in raw) else self._numbers.whole(raw, "image size")
            if number is None or number in listed:
                remedy = "Use a different whole number for each image"
                self._fatal("bad image id", f"image {_shown(name)}", repr(entry["id"]), remedy)
            elif not is_file_name(name):
                remedy = "Give a valid file name as a string"
                self._fatal("bad file name", f"image {number}", ascii(name), remedy)
            elif size != (0, 0) and not all(map(is_side, size)):
                self._fatal("bad image size", f"image {name}", raw, "Give width and height in whole pixels")
            else:
                listed[number] = (name, *size)
        places = [self.root / place for place in self._places("images", named, IMAGES)]
        folder, backslashes = choose_folder(places, [name for name, _, _ in listed.values()])
        here: dict[int, str] = {}
        for number, (name, _, _) in listed.items():
            if path := path_below(folder, as_path(name, backslashes)):
                here[number] = path
                continue
            remedy = f"Write it relative to {folder}, or name the folder: data.args.images={{{self.split}: folder}}"
            self._fatal("image outside the image folder", f"image {number}", name, remedy)
        advice = f"data.root, or data.args.images={{{self.split}: folder}}"
        present = self._present(list(here.values()), self.file, places, advice)
        records = [
            Record(number, path, *listed[number][1:], np.zeros(0, OBJECT))
            for (number, path), there in zip(here.items(), present, strict=True)
            if there
        ]
        return records, set(listed)

    def _read_objects(self, entries: list[dict[str, Any]], known: set[int]) -> None:
        """Check all annotations, column by column, and assign them to their images."""
        label_of = {category["id"]: label for label, category in enumerate(self.categories)}
        index_of: dict[int | None, int] = {record.image_id: index for index, record in enumerate(self.records)}
        image_ids = self._numbers.whole([entry["image_id"] for entry in entries], "image_id")
        categories = self._numbers.whole([entry["category_id"] for entry in entries], "category_id")
        boxes, four = self._numbers.rows([entry["bbox"] for entry in entries], 4, "bbox")
        crowd, difficult = (_flags([entry.get(name) for entry in entries]) for name in ("iscrowd", "difficult"))

        def where(i: int) -> str:
            return f"annotation {entries[i].get('id', f'at place {i}')}"

        def column(name: str) -> Callable[[int], str]:
            return lambda i: repr(entries[i][name])[:200]

        def both_flags(i: int) -> str:
            return str({key: entries[i].get(key) for key in ("iscrowd", "difficult")})[:200]

        ok = np.ones(len(entries), bool)
        for kind, good, shown, remedy in (
            (
                "unknown image",
                (number in known for number in image_ids),
                column("image_id"),
                "Give the id of an entry of `images`, a whole number, or remove it",
            ),
            (
                "unknown category",
                (number in label_of for number in categories),
                column("category_id"),
                "Give the id of an entry of `categories`, a whole number, or add one",
            ),
            ("bad bbox", four, column("bbox"), "Give [x, y, width, height] in pixels"),
            ("bad flag", (crowd >= 0) & (difficult >= 0), both_flags, "Give 0 or 1"),
        ):
            fine = good if isinstance(good, np.ndarray) else np.fromiter(good, bool, len(entries))
            for i in np.flatnonzero(ok & ~fine).tolist():
                self._fatal(kind, where(i), shown(i), remedy)
            ok &= fine
        self._report_repeated([entry.get("id") for entry in entries], where)

        index = np.fromiter((index_of.get(number, -1) for number in image_ids), np.int64, len(entries))
        rows = np.flatnonzero(ok & (index >= 0))
        objects = np.zeros(len(rows), OBJECT)
        objects["box"] = boxes[rows]
        objects["box"][:, 2:] += objects["box"][:, :2]
        objects["label"] = [label_of[categories[i]] for i in rows.tolist()]  # type: ignore[index]
        objects["area"] = self._areas([entries[i].get("area") for i in rows.tolist()])
        objects["iscrowd"], objects["difficult"] = crowd[rows], difficult[rows]

        records = self.records

        def describe(i: int) -> tuple[Path, str, str]:
            record, entry = records[index[rows[i]]], entries[rows[i]]
            name = f"annotation {entry.get('id', '?')} of {Path(record.path).name}"
            return self.file, name, f"x, y, w, h = {entry['bbox']} on {record.width}x{record.height}"

        keep = self._settle(objects, index[rows], describe, self.file)
        for i in np.flatnonzero(keep & (objects["area"] == 0)).tolist():
            file, name, _ = describe(i)
            value = str(entries[rows[i]]["area"])[:200]
            self.problems.add(Problem("area is no positive number", file, name, value, "The box's is taken"))

    def _report_repeated(self, values: list[Any], where: Callable[[int], str]) -> None:
        ids = self._numbers.whole(values, "annotation id")
        keys = [repr(value) if number is None else number for value, number in zip(values, ids, strict=True)]
        if len(set(keys)) == len(keys):
            return
        seen: set[Any] = set()
        for i, key in enumerate(keys):
            if key in seen and values[i] is not None:
                remedy = "All are kept, under new ids; was one file merged into another twice?"
                self.problems.add(Problem("repeated annotation id", self.file, where(i), key, remedy))
            seen.add(key)

    def _areas(self, values: list[Any]) -> np.ndarray:
        """Areas of the outlines, by which COCO's AP tells small, medium and large objects. NaN where there is none, 0
        where it is no positive number."""
        stated = [np.nan if v is None else self._numbers.real(v, "area") or 0.0 for v in values]
        areas = np.array(stated, np.float64)
        known = np.array([v is not None for v in values], bool)
        return np.where(known & ~((areas > 0) & (areas < np.inf)), 0.0, areas)


def _is_coco(path: str) -> bool:
    """Whether a json file is a COCO label file: "images" or "annotations" occurs near its beginning or end."""
    with open(path, "rb", opener=regular_only) as file:
        ends = file.read(_ENDS)
        file.seek(max(_ENDS, os.fstat(file.fileno()).st_size - _ENDS))
        ends += file.read()
    return ends.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{") and (b'"images"' in ends or b'"annotations"' in ends)


def _flags(values: list[Any]) -> np.ndarray:
    """Each as 0 or 1; -1 where it is neither."""
    plain = [v if isinstance(v, int | float | str) or v is None else "neither" for v in values]
    read = {v: flag(v) for v in set(plain)}  # many annotations, few different values
    return np.array([-1 if read[v] is None else read[v] for v in plain], np.int64)


def _shown(name: object) -> str:
    return name if isinstance(name, str) and is_text(name) else ascii(name)


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """json object hook that drops outlines, which are unused: it saves most of the memory of a COCO file."""
    entry.pop("segmentation", None)
    return entry
