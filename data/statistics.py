"""Statistics of a split: images, boxes per class and their sizes; and the tables that `data.check` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .dataset import DetectionDataset
from .problems import Problem, Problems
from .recordings import Tally

SMALL = 8  # pixels; the finest grid of the detectors


@dataclass
class ClassReport:
    """Counts of one class in the ground truth. short_sides: shorter sides of its training boxes, in pixels of `x`."""

    boxes: int
    images: int  # with at least one box
    crowd: int
    difficult: int
    short_sides: np.ndarray


@dataclass
class SplitReport:
    images: int
    missing: int  # listed, but absent or unusable
    boxes_per_image: np.ndarray  # [images]
    image_sizes: Counter[tuple[int, int]]  # (width, height)
    classes: dict[str, ClassReport]
    recordings: list[Tally] = field(default_factory=list)  # of event recordings that were read whole

    @property
    def negatives(self) -> int:
        return int((self.boxes_per_image == 0).sum())


def count_split(dataset: DetectionDataset, problems: Problems) -> SplitReport:
    """Statistics of `dataset`. Duplicate boxes are reported."""
    truth = dataset.ground_truth()
    boxes = truth["annotations"]
    _report_repeated(truth, problems)
    label_of = {category["id"]: label for label, category in enumerate(truth["categories"])}
    index_of = {image["id"]: index for index, image in enumerate(truth["images"])}
    labels = np.array([label_of[box["category_id"]] for box in boxes], np.int64)
    images = np.array([index_of[box["image_id"]] for box in boxes], np.int64)
    crowd = np.array([bool(box["iscrowd"]) for box in boxes], bool)
    difficult = np.array([bool(box.get("difficult", 0)) for box in boxes], bool)
    learnt = labels[~(crowd | difficult)]
    short_sides = dataset.box_sizes().min(axis=1, initial=np.inf)  # in the order of the ground truth
    return SplitReport(
        images=len(truth["images"]),
        missing=dataset.expected_images - len(truth["images"]),
        boxes_per_image=np.bincount(images, minlength=len(truth["images"])),
        image_sizes=Counter((image["width"], image["height"]) for image in truth["images"]),
        classes={
            name: ClassReport(
                boxes=int((labels == label).sum()),
                images=len(np.unique(images[labels == label])),
                crowd=int(crowd[labels == label].sum()),
                difficult=int(difficult[labels == label].sum()),
                short_sides=short_sides[learnt == label],
            )
            for label, name in enumerate(dataset.class_names)
        },
    )


def _report_repeated(truth: dict, problems: Problems) -> None:
    names = {category["id"]: category["name"] for category in truth["categories"]}
    files = {image["id"]: image["file_name"] for image in truth["images"]}
    seen = set()
    for box in truth["annotations"]:
        key = box["image_id"], box["category_id"], *box["bbox"]
        if key in seen:
            value = f"{names[key[1]]}, x, y, w, h = {box['bbox']}"
            remedy = "Both are kept; no detection can match the second, which lowers AP"
            problems.add(Problem("same box again", files[key[0]], "", value, remedy))
        seen.add(key)


def overview(datasets: dict[str, DetectionDataset], most: int = 10) -> str:
    """The tables of `data.check` for the splits of a training, with at most `most` classes, and problems that the
    labels show. ValueError where the first split, the one to train on, has no training box."""
    problems = Problems()
    splits = {name: count_split(dataset, problems) for name, dataset in datasets.items()}
    report_unlearnt(splits, next(iter(splits)), problems)
    parts = [split_table(splits), class_table(splits, most)]
    return "\n\n".join([*parts, problems.summary()] if problems.items else parts)


def report_unlearnt(splits: dict[str, SplitReport], training: str, problems: Problems) -> None:
    """Report classes without training boxes in the split `training`."""
    if not any(len(found.short_sides) for found in splits[training].classes.values()):
        boxes = sum(found.boxes for found in splits[training].classes.values())
        value = f"none of {boxes} boxes in {splits[training].images} images" + (
            ", all crowd or difficult" * (boxes > 0)
        )
        remedy = "A detector learns from boxes: look at the labels, and at data.train_split"
        problems.add(Problem("no box to learn", f"split {training!r}", "", value, remedy, fatal=True))
        return
    for name, found in splits[training].classes.items():
        if len(found.short_sides):
            continue
        others = {s: len(r.classes[name].short_sides) for s, r in splits.items() if s != training and name in r.classes}
        scored = ", ".join(f"{count} in {split!r}" for split, count in others.items() if count)
        kind = "class scored but not trained" if scored else "class without training boxes"
        value = f"{found.boxes} boxes, all of them crowd or difficult" if found.boxes else "no box"
        remedy = "The network cannot learn it: add images, or leave the class out"
        problems.add(Problem(kind, f"split {training!r}", name, value + (f", but {scored}" if scored else ""), remedy))


def split_table(splits: dict[str, SplitReport]) -> str:
    """Table of images, and of events where recordings were read: a column for each split."""
    reports = splits.values()
    rows = [
        ["", *splits],
        ["images", *(str(r.images) for r in reports)],
        ["  without boxes", *(str(r.negatives) for r in reports)],
        ["  listed, not usable", *(str(r.missing) for r in reports)],
        ["boxes in one image, median / max", *(_median_and_max(r.boxes_per_image) for r in reports)],
        ["image sizes", *(_sizes(r.image_sizes) for r in reports)],
    ]
    if any(r.recordings for r in reports):
        rows += [[title, *cells] for title, *cells in zip(_EVENT_ROWS, *map(_event_cells, reports), strict=True)]
    return "\n".join(_aligned(rows))


def class_table(splits: dict[str, SplitReport], most: int | None = None) -> str:
    """Table of boxes: a row for each class, sorted by number of boxes, at most `most`; columns for each split."""
    known = dict.fromkeys(name for report in splits.values() for name in report.classes)
    count = {name: sum(r.classes[name].boxes for r in splits.values() if name in r.classes) for name in known}
    names = sorted(known, key=lambda name: -count[name])[:most]
    everything = [found for report in splits.values() for found in report.classes.values()]
    flags = [flag for flag in ("crowd", "difficult") if any(getattr(found, flag) for found in everything)]
    blocks = []
    for report in splits.values():
        whole = _total(report)
        rows = [["boxes", "%", "images", *flags, "min", "median", "max", f"<{SMALL}"], _cells(whole, whole, flags)]
        rows += [
            _cells(report.classes[name], whole, flags) if name in report.classes else [""] * len(rows[0])
            for name in names
        ]
        blocks.append(_aligned(rows, gap=" ", left=False))
    titles = _aligned([["class"], ["all"], *([name] for name in names)])
    width = len(titles[0])
    head = " | ".join([" " * width, *(split.ljust(len(b[0])) for split, b in zip(splits, blocks, strict=True))])
    lines = [" | ".join(parts) for parts in zip(titles, *blocks, strict=True)]
    note = f"min, median, max, <{SMALL}: the shorter side of the boxes to learn, in pixels of the network's input"
    if more := len(known) - len(names):
        note = f"and {more} classes with fewer boxes; {note}"
    return "\n".join([head.rstrip(), *(line.rstrip() for line in lines), note])


_EVENT_ROWS = (
    "recordings",
    "  duration",
    "  events [M]",
    "  ON events",
    "  rate [M/s]",
    "  of one, min / median / max",
)


def _event_cells(report: SplitReport) -> list[str]:
    """A cell for each of `_EVENT_ROWS`."""
    tallies = report.recordings
    seconds, events, on = (sum(getattr(tally, name) for tally in tallies) for name in ("seconds", "events", "on"))
    rates = [tally.events / tally.seconds for tally in tallies if tally.seconds]
    return [
        str(len(tallies)),
        f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.1f} s",
        _millions(events),
        f"{100 * on / events:.1f} %" if events else "-",
        _millions(events / seconds) if seconds else "-",
        " / ".join(_millions(f(rates)) for f in (np.min, np.median, np.max)) if rates else "-",
    ]


def _total(report: SplitReport) -> ClassReport:
    found = list(report.classes.values())
    sides = np.concatenate([np.zeros(0), *(c.short_sides for c in found)])
    boxes, crowd, difficult = (sum(getattr(c, name) for c in found) for name in ("boxes", "crowd", "difficult"))
    return ClassReport(boxes, report.images - report.negatives, crowd, difficult, sides)


def _cells(found: ClassReport, whole: ClassReport, flags: list[str]) -> list[str]:
    share = f"{100 * found.boxes / whole.boxes:.1f}" if whole.boxes else "-"
    sides = found.short_sides
    spread = [_pixels(f(sides)) for f in (np.min, np.median, np.max)] if len(sides) else ["-"] * 3
    counts = [str(getattr(found, flag)) for flag in flags]
    return [str(found.boxes), share, str(found.images), *counts, *spread, str(int((sides < SMALL).sum()))]


def _aligned(rows: Sequence[Sequence[str]], gap: str = "  ", left: bool = True) -> list[str]:
    """Lines of equal length: columns are right-aligned, the first one left-aligned if `left`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first = row[0].ljust(widths[0]) if left else row[0].rjust(widths[0])
        lines.append(gap.join([first, *map(str.rjust, row[1:], widths[1:])]))
    return lines


def _pixels(side: float) -> str:
    return f"{side:.1f}" if side < 9.95 else f"{side:.0f}"


def _millions(count: float) -> str:
    return f"{count / 1e6:.0f}" if count >= 1e8 else f"{count / 1e6:.3g}"


def _median_and_max(counts: np.ndarray) -> str:
    return f"{np.median(counts):g} / {counts.max()}" if len(counts) else "-"


def _sizes(sizes: Counter[tuple[int, int]]) -> str:
    (width, height), _ = sizes.most_common(1)[0] if sizes else ((0, 0), 0)
    return f"{width}x{height}" + (f" and {len(sizes) - 1} others" if len(sizes) > 1 else "")
