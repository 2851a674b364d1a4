"""Look at a whole dataset before a training does: what it holds, and everything that is wrong with it.

    python -m data.check CONFIG [key=value ...] [--fast]

Exit code 1 where something would stop a training; with data.strict, for anything found. `--fast` reads labels only,
not the pictures and recordings.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import DetectionDataset, MissingSplit
from .events import audit_dat
from .gen1 import RECORDING, Gen1
from .image_dataset import ImageDataset, Record, read_record
from .problems import Problem, Problems
from .registry import create_dataset

SMALL = 8  # pixels; the finest grid of the detectors


@dataclass
class SplitReport:
    """What a split holds. Boxes are all of the ground truth, `short_sides` those of training boxes in pixels of `x`."""

    images: int
    missing: int  # listed, but not there or not usable
    negatives: int  # without any box
    boxes: dict[str, int]  # per class
    crowd: int
    difficult: int
    picture_sizes: Counter[tuple[int, int]]  # (width, height)
    short_sides: np.ndarray


@dataclass
class CheckReport:
    splits: dict[str, SplitReport] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    problems: Problems = field(default_factory=lambda: Problems(collect=True))

    @property
    def fatal(self) -> list[Problem]:
        return [problem for problem in self.problems.items if problem.fatal]

    def __str__(self) -> str:
        parts = [_table(self.splits)] if self.splits else []
        parts += [f"no split {name!r}" for name in self.absent]
        for title, fatal in (("WOULD STOP A TRAINING", True), ("repaired, dropped, or worth a look", False)):
            some = Problems(collect=True)
            some.items = [problem for problem in self.problems.items if problem.fatal == fatal]
            if some.items:
                parts.append(f"{title}: {len(some.items)}\n{some.summary()}")
        return "\n\n".join(parts if self.problems.items else [*parts, "nothing wrong was found"])


def check_dataset(
    name: str, splits: Sequence[str], *, fast: bool = False, optional: Sequence[str] = (), **kwargs: Any
) -> CheckReport:
    """Read all `splits` of the dataset `name` (its constructor's arguments in `kwargs`), and every file unless `fast`.

    Nothing raises for bad data: it is all in the report. A split named in `optional` may be absent.
    """
    report = CheckReport()
    problems = report.problems
    classes: dict[str, list[str]] = {}
    files: dict[str, list[Path]] = {}
    for split in dict.fromkeys(splits):
        try:
            dataset = create_dataset(name, split, problems=problems, **kwargs)
        except ValueError as error:
            if isinstance(error, MissingSplit) and split in optional:
                report.absent.append(split)
            else:
                remedy = "Nothing else of this split was looked at"
                problems.add(Problem("unreadable split", f"split {split!r}", "", error, remedy, fatal=True))
            continue
        report.splits[split] = _count(dataset, problems)
        classes[split], files[split] = dataset.class_names, _files(dataset)
        if not fast:
            _read_files(dataset, files[split], problems)
    _compare_files(files, problems, fast)
    if len({tuple(names) for names in classes.values()}) > 1:
        remedy = "A model has one list of classes: correct the labels, or name the classes in the config"
        problems.add(Problem("classes differ between splits", name, "", classes, remedy, fatal=True))
    return report


def _count(dataset: DetectionDataset, problems: Problems) -> SplitReport:
    truth = dataset.ground_truth()
    names = {category["id"]: category["name"] for category in truth["categories"]}
    files = {image["id"]: image["file_name"] for image in truth["images"]}
    boxes, used, seen = dict.fromkeys(dataset.class_names, 0), set(), set()
    for box in truth["annotations"]:
        boxes[names[box["category_id"]]] += 1
        used.add(box["image_id"])
        key = box["image_id"], box["category_id"], *box["bbox"]
        if key in seen:
            value = f"{names[key[1]]}, x, y, w, h = {box['bbox']}"
            remedy = "Both are kept; no detection can match the second, which lowers AP"
            problems.add(Problem("same box again", files[key[0]], "", value, remedy))
        seen.add(key)
    return SplitReport(
        images=len(dataset),
        missing=dataset.expected_images - len(dataset),
        negatives=len(truth["images"]) - len(used),
        boxes=boxes,
        crowd=sum(box["iscrowd"] for box in truth["annotations"]),
        difficult=sum(box.get("difficult", 0) for box in truth["annotations"]),
        picture_sizes=Counter((image["width"], image["height"]) for image in truth["images"]),
        short_sides=dataset.box_sizes().min(axis=1, initial=np.inf),
    )


def _files(dataset: DetectionDataset) -> list[Path]:
    if isinstance(dataset, ImageDataset):
        return [Path(record.path) for record in dataset.records]
    return sorted(dataset.folder.glob(f"*{RECORDING}")) if isinstance(dataset, Gen1) else []


def _read_files(dataset: DetectionDataset, files: list[Path], problems: Problems) -> None:
    """Decode every picture, or read every event."""
    if isinstance(dataset, ImageDataset):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for record, error in zip(dataset.records, pool.map(_decode_error, dataset.records), strict=True):
                if error:
                    remedy = "Loading it stops a training"
                    problems.add(Problem("unreadable picture", record.path, "", error, remedy, fatal=True))
    else:
        for file in files:
            audit_dat(file, problems)


def _decode_error(record: Record) -> str:
    try:
        read_record(record)
    except ValueError as error:
        return str(error).removeprefix(f"{record.path}: ")
    return ""


def _compare_files(files: dict[str, list[Path]], problems: Problems, fast: bool) -> None:
    """The same file in two splits is a test on what was trained; twice in one split it counts double."""
    first: dict[Any, tuple[str, Path]] = {}
    for split, paths in files.items():
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            prints = list(pool.map(_name_and_size if fast else _content, paths))
        for path, key in zip(paths, prints, strict=True):
            other, twin = first.setdefault(key, (split, path))
            if twin is path:
                continue
            what = "same name and length" if fast else "same content"
            if other != split:
                remedy = f"Keep it in one of them: scores on {split!r} are not those of unseen data"
                problems.add(Problem("same file in two splits", path, f"split {split!r}", f"{what} as {twin}", remedy))
            elif not fast:  # names may well repeat in the folders of one split
                problems.add(Problem("same file again in a split", path, "", f"{what} as {twin}", "It counts double"))


def _name_and_size(path: Path) -> Any:
    return path.name, path.stat().st_size


def _content(path: Path) -> Any:
    """Length and a digest of the first MiB: a recording differs there or not at all."""
    with open(path, "rb") as file:
        return path.stat().st_size, hashlib.blake2b(file.read(1 << 20)).digest()


def _table(splits: dict[str, SplitReport]) -> str:
    reports = splits.values()
    rows: list[tuple[str, list[Any]]] = [
        ("images", [r.images for r in reports]),
        ("  without boxes", [r.negatives for r in reports]),
        ("  listed, not usable", [r.missing for r in reports]),
        ("boxes", [sum(r.boxes.values()) for r in reports]),
    ]
    for name in dict.fromkeys(name for r in reports for name in r.boxes):
        rows.append((f"  {name}", [r.boxes.get(name, 0) for r in reports]))
    rows += [
        ("  of these crowd", [r.crowd for r in reports]),
        ("  of these difficult", [r.difficult for r in reports]),
        ("picture sizes", [_sizes(r.picture_sizes) for r in reports]),
        ("shorter side of boxes, input pixels", [""] * len(reports)),
        ("  min / median / max", [_spread(r.short_sides) for r in reports]),
        (f"  below {SMALL} pixels", [int((r.short_sides < SMALL).sum()) for r in reports]),
    ]
    cells = [["", *splits], *([title, *map(str, values)] for title, values in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    aligned = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in cells)
    return "\n".join("  ".join(row).rstrip() for row in aligned)


def _sizes(sizes: Counter[tuple[int, int]]) -> str:
    (width, height), _ = sizes.most_common(1)[0] if sizes else ((0, 0), 0)
    return f"{width}x{height}" + (f" and {len(sizes) - 1} others" if len(sizes) > 1 else "")


def _spread(values: np.ndarray) -> str:
    return " / ".join(f"{f(values):.1f}" for f in (np.min, np.median, np.max)) if len(values) else "-"


if __name__ == "__main__":
    import argparse
    import sys

    from engine.config import dataset_kwargs, load_config

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a YAML file under configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--fast", action="store_true", help="labels only")
    args = parser.parse_intermixed_args()
    try:
        cfg = load_config(args.config, args.overrides)
        names = [cfg.data.train_split, cfg.data.val_split, cfg.data.test_split]
        name, kwargs = dataset_kwargs(cfg, augment=True)  # with the augmentation, whose options are checked too
        report = check_dataset(name, names, fast=args.fast, optional=names[2:], **kwargs)
    except ValueError as error:
        sys.exit(f"{parser.prog}: {error}")
    print(report)
    sys.exit(1 if report.fatal or (cfg.data.strict and report.problems.items) else 0)
