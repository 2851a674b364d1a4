"""Read ground truth and detections from COCO json files; every entry is checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry import UserError

# Test of a value, and what it must be.
Check = tuple[Callable[[Any], bool], str]


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int beyond the range of float
        return False


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)) and min(value[2:]) >= 0


WHOLE: Check = (lambda v: isinstance(v, int) and not isinstance(v, bool), "a whole number")
NUMBER: Check = (_is_number, "a finite number")
LENGTH: Check = (lambda v: _is_number(v) and v > 0, "a number above 0")
FLAG: Check = (lambda v: isinstance(v, int) and v in (0, 1), "0 or 1")
TEXT: Check = (lambda v: isinstance(v, str), "a text")
BOX: Check = (_is_box, "[x, y, w, h] in pixels, finite, with w, h >= 0")
SOLID: Check = (lambda v: _is_box(v) and min(v[2:]) > 0, "[x, y, w, h] in pixels, finite, with w, h > 0")

# Keys that each list must have, and keys that are read where they are given.
NEEDED: dict[str, dict[str, Check]] = {
    "images": {"id": WHOLE},
    "categories": {"id": WHOLE, "name": TEXT},
    "annotations": {"image_id": WHOLE, "category_id": WHOLE, "bbox": SOLID},
    "detections": {"image_id": WHOLE, "category_id": WHOLE, "bbox": BOX, "score": NUMBER},
}
GIVEN: dict[str, dict[str, Check]] = {
    "images": {"width": LENGTH, "height": LENGTH, "clip": TEXT, "t_us": WHOLE, "start_us": WHOLE, "window_us": WHOLE},
    "categories": {},
    "annotations": {"area": NUMBER, "iscrowd": FLAG, "difficult": FLAG},
    "detections": {},
}


def read_truth(path: str | Path, annotated: bool = True) -> dict[str, Any]:
    """A COCO annotation file: `images`, `annotations`, `categories`, as `DetectionDataset.ground_truth()` gives them.

    Images of event recordings also have `clip` and `t_us` and, on clocks that do not begin at 0, `start_us`. UserError
    naming file, entry and remedy for every entry that is malformed or ambiguous.

    annotated: False: without `annotations`, as images.json of predict.py
    """
    content = _read(path)
    lists = ("images", "categories", "annotations") if annotated else ("images", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in lists):
        raise UserError(f"{path}: has not the lists {', '.join(lists)}. Give a COCO annotation file as the truth")
    for name in lists:
        _check_entries(path, name, name, content[name])
    for name, key in (("images", "id"), ("categories", "id"), ("categories", "name")):
        first: dict[Any, int] = {}
        for i, entry in enumerate(content[name]):
            if (j := first.setdefault(entry[key], i)) != i:
                raise UserError(f"{path}: {name}[{i}] has the {key} {entry[key]!r} of {name}[{j}]. Give each its own")
    if annotated:
        _check_references(path, "annotations", content["annotations"], content, "Remove it, or list what it names")
    return content


def read_detections(path: str | Path, ground_truth: dict[str, Any]) -> list[dict[str, Any]]:
    """COCO results: a list of {image_id, category_id, bbox [x, y, w, h], score}, or a dict with such `annotations`.

    ValueError naming file, entry and remedy for an entry that is malformed, or names an image or category that
    `ground_truth` does not list.
    """
    content, name = _read(path), "detections"
    if isinstance(content, dict):
        content, name = content.get("annotations"), "annotations"
    if not isinstance(content, list):
        raise UserError(f"{path}: is no list of detections. Give COCO results, as evaluate.py writes detections.json")
    _check_entries(path, "detections", name, content)
    remedy = "Give the truth of the split that was predicted, and the dataset's own ids, not labels counted from 0"
    _check_references(path, name, content, ground_truth, remedy)
    return content


def _read(path: str | Path) -> Any:
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a json file: {error}. Write or copy it again") from error


def _check_entries(path: str | Path, kind: str, name: str, entries: list[Any]) -> None:
    """name: of the list in the file. kind: of its entries, a key of `NEEDED`."""
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: {name}[{i}] is {entry!r:.80}. Give a mapping with {', '.join(NEEDED[kind])}")
        for key in NEEDED[kind]:
            if key not in entry:
                raise UserError(f"{path}: {name}[{i}] has no {key}. It needs {', '.join(NEEDED[kind])}")
        for key, (is_good, expected) in (NEEDED[kind] | GIVEN[kind]).items():
            if key in entry and not is_good(entry[key]):
                raise UserError(f"{path}: {name}[{i}] has {key} {entry[key]!r:.80}. Give {expected}")


def _check_references(
    path: str | Path, name: str, entries: list[dict[str, Any]], truth: dict[str, Any], remedy: str
) -> None:
    images = {image["id"] for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    for i, entry in enumerate(entries):
        if entry["image_id"] not in images:
            raise UserError(f"{path}: {name}[{i}]: the truth has no image {entry['image_id']}. {remedy}")
        if entry["category_id"] not in categories:
            known = ", ".join(map(str, sorted(categories)[:10])) + (" ..." if len(categories) > 10 else "")
            raise UserError(
                f"{path}: {name}[{i}]: the truth has no category {entry['category_id']}; it has {known}. {remedy}"
            )
