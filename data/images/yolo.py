"""YOLO datasets: a yaml file with images and classes, and text files of normalised boxes beside the images."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from registry import UserError, none_of

from ..files import regular_only
from ..problems import Problem
from ..registry import register_dataset
from ..type_checks import class_list, is_whole
from .dataset import ImageDataset
from .image_file import image_header, upright_size
from .orientation import decide
from .record import OBJECT, Record
from .yolo_folder import YAML, YoloFolder, label_file
from .yolo_lines import LINES, Longer, longer_line, what_lines_mean

log = logging.getLogger(__name__)

_LARGEST = 2.0  # a box that ends beyond twice the image is in pixels, not normalised
_ARGUMENT = "data.args.lines=box: the first four numbers are the box; data.args.lines=outline: all are points"


@register_dataset("yolo")
class Yolo(ImageDataset):
    """Any dataset in YOLO's format. Arguments of `ImageDataset`, `root` may be the yaml file itself, and

    yaml:        the dataset's yaml or Darknet .data file, relative to `root`; None: the only one there. Without one,
                 images are searched in `yolo_folder.PLACES`
    class_names: names of the class ids 0, 1, ...; None: `names` of the file, else the lines of a classes.txt
    lines:       meaning of lines with more than four numbers after the class: "box": the first four are the box;
                 "outline": points of a polygon; "auto": from the yaml's `kpt_shape`, or detected from all lines of the
                 split; an error where that is ambiguous

    The yaml has `path` (the base folder; default: that of the yaml), for each split a folder, a .txt list of images or
    several of these, and `names`. The label of .../images/a/b.jpg is .../labels/a/b.txt, or lies beside the image where
    no folder is called images. A line is `class x y w h`, centre and size relative to the image, or
    `class x1 y1 x2 y2 x3 y3 ...`, an outline, whose bounding box is used. No line or no file: an image without objects.
    Label k has the category id k + 1. Images are rotated by their EXIF orientation. No file is ever written.
    """

    own_splits = True

    def __init__(
        self,
        split: str,
        *,
        root: str | Path,
        yaml: str | None = None,
        class_names: Sequence[str] | None = None,
        lines: str = "auto",
        **common: Any,
    ):
        root = Path(root)
        if root.suffix in (*YAML, ".data") and root.is_file():
            root, yaml = root.parent, root.name
        super().__init__(split, root=root, **common)
        if lines not in LINES:
            raise UserError(none_of(f"lines = {lines!r}", lines, LINES))
        folder = YoloFolder(root, yaml)
        given = class_names is not None
        self.class_names = class_list(class_names, "class_names") if given else folder.class_names()
        if str(folder.content.get("nc") or len(self.class_names)) != str(len(self.class_names)):
            named = f"nc is {folder.content['nc']}, but there are {len(self.class_names)} names"
            raise UserError(f"{folder.file}: {named}. Correct one")
        self.categories = [{"id": k, "name": name} for k, name in enumerate(self.class_names, 1)]
        self._lines, self._numbers = lines, None if lines == "outline" else _key_point_numbers(folder)
        source, listed = folder.all_images() if self._shares else folder.images(split)
        counts = Counter(listed)
        for path, count in counts.items():
            if count > 1:
                self.problems.add(Problem("image listed again", source, path, f"{count} times", "It is used once"))
        present = self._present(list(counts), source)
        self._read([(k, path) for k, (path, here) in enumerate(zip(counts, present, strict=True), 1) if here], source)

    def _fatal(self, kind: str, file: str | Path, record: str, value: object, remedy: str) -> None:
        self.problems.add(Problem(kind, file, record, value, remedy, fatal=True))

    def _read(self, images: list[tuple[int, str]], source: Path) -> None:
        """Read (image id, path) into records. Files are read in parallel, problems are reported in order."""
        self.records = []
        rows: list[tuple[float, ...]] = []  # label, then x1, y1, x2, y2 relative to the image
        origin: list[tuple[int, int]] = []  # per row: index of its record, number of its line
        longer: dict[int, Longer] = {}  # by row
        turns: list[int] = []  # per record: EXIF orientation
        unlabelled = 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            files = pool.map(_read_files, (path for _, path in images))
            for (image_id, path), (header, lines) in zip(images, files, strict=True):
                if isinstance(header, ValueError):
                    self.report_unreadable(path, str(header))
                    continue
                unlabelled += lines is None
                for number, line in enumerate(lines or (), 1):
                    numbers = self._parse(path, number, line) if line.strip() else None
                    if numbers is not None:
                        label, x, y, w, h, *more = numbers
                        if more:
                            longer[len(rows)] = longer_line(numbers[1:])
                        rows.append((label, x - w / 2, y - h / 2, x + w / 2, y + h / 2))
                        origin.append((len(self.records), number))
                self.records.append(Record(image_id, path, *header[0], np.zeros(0, OBJECT)))
                turns.append(header[1])
        self._turn(np.array(turns, np.int64), source)
        if unlabelled and unlabelled == len(images):
            value = f"none of {unlabelled} images has one; the first is looked for at {label_file(images[0][1])}"
            self._fatal("no label files", source, "", value, "Put them there, or empty ones for images without objects")
        elif unlabelled:
            log.warning("%s: %d of %d images have no label file: without objects", source, unlabelled, len(images))
        owner = np.array([record for record, _ in origin], np.int64)
        table = np.array(rows, np.float64).reshape(-1, 5)
        dropped = self._resolve(longer, table, origin, source)

        def describe(i: int) -> tuple[str, str, str]:
            record, (x1, y1, x2, y2) = self.records[owner[i]], table[i, 1:].tolist()
            shown = ", ".join(f"{v:g}" for v in ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))
            value = f"x, y, w, h = {shown} of {record.width}x{record.height}"
            return label_file(record.path), f"line {origin[i][1]}", value

        kept = np.setdiff1d(np.arange(len(rows)), dropped)
        objects = np.zeros(len(rows), OBJECT)
        scale = np.array([(r.width, r.height, r.width, r.height) for r in self.records]).reshape(-1, 4)[owner]
        objects["label"], objects["box"], objects["area"] = table[:, 0], table[:, 1:] * scale, np.nan
        self._place(objects[kept], owner[kept], lambda i: describe(int(kept[i])))

    def _turn(self, turns: np.ndarray, source: Path) -> None:
        """Apply EXIF orientations. Relative coordinates give no evidence for either, so the default decides."""
        sizes = np.array([(record.width, record.height) for record in self.records], np.int64).reshape(-1, 2)
        turning = decide(sizes, turns, 0 * sizes, 0 * sizes, self._orientation, "turned")
        if turning.summary:
            self.problems.add(Problem("EXIF orientation", source, "", *turning.summary))
        for record, turn in zip(self.records, np.where(turning.upright, turns, 1).tolist(), strict=True):
            record.upright = turn != 1
            record.width, record.height = upright_size((record.width, record.height), turn)

    def _parse(self, path: str, number: int, line: str) -> list[float] | None:
        """[label, further numbers] of a line; None for an invalid line, which is added to the problems."""
        where, shown = f"line {number}", line.strip()[:200]
        try:
            label, *numbers = map(float, line.split())
        except ValueError:
            label, numbers = math.nan, []
        if not label.is_integer() or not self._may_have(numbers):
            remedy = "It needs `class x y w h`, or `class x1 y1 x2 y2 x3 y3 ...`, and nothing else"
            if self._numbers is not None:
                remedy = f"By kpt_shape it has {self._numbers} numbers after the class, or 4"
            self._fatal("malformed line", label_file(path), where, shown, remedy)
        elif not 0 <= label < len(self.class_names):
            remedy = f"Correct it, or name it: classes are 0 to {len(self.class_names) - 1}"
            self._fatal("unknown class", label_file(path), where, shown, remedy)
        elif any(_LARGEST < value < math.inf for value in numbers[:4]):
            remedy = "Divide by the image's width and height: 1 is its far edge"
            self._fatal("coordinates not normalised", label_file(path), where, shown, remedy)
        else:
            return [label, *numbers]
        return None

    def _may_have(self, numbers: list[float]) -> bool:
        """Whether any line format has this many numbers, with valid values after the first four."""
        count = len(numbers)
        if count == 4:
            return True
        if self._numbers is not None:
            return count == self._numbers
        if self._lines == "box":
            return count > 4
        if self._lines == "outline":
            return count >= 6 and count % 2 == 0
        return count >= 5 and (count % 2 == 0 or longer_line(numbers).vote == "box")

    def _resolve(
        self, longer: dict[int, Longer], table: np.ndarray, origin: list[tuple[int, int]], source: Path
    ) -> list[int]:
        """Decide the meaning of longer lines, and write the boxes of outlines into `table` [N, 5]. Returns the rows to
        drop, whose meaning is ambiguous. The decision is added to the problems."""
        if not longer:
            return []
        files = {row: label_file(self.records[origin[row][0]].path) for row in longer}
        first = next(iter(longer))
        place = f"{len(longer)} of {len(table)} lines, the first is line {origin[first][1]} of {files[first]}"
        meaning = (
            self._lines if self._lines != "auto" else "box" if self._numbers else what_lines_mean([*longer.values()])
        )
        if meaning == "box":
            if self._lines == "auto" and not self._numbers:
                remedy = "They are ignored: judging by all lines, the first four are the box"
                self.problems.add(Problem("numbers after the box", source, "", place, remedy))
            return []
        if meaning != "outline":
            remedy = f"Say what they are. {_ARGUMENT}"
            self._fatal("lines that may be boxes with more columns, or outlines", source, "", place, remedy)
            return list(longer)
        dropped = []
        boxed = {label_file(self.records[record].path) for i, (record, _) in enumerate(origin) if i not in longer}
        for row, line in longer.items():
            table[row, 1:] = line.hull
            if any(_LARGEST < side < math.inf for side in line.hull):
                dropped.append(row)
                remedy = "Divide by the image's width and height: 1 is its far edge"
                self._fatal("coordinates not normalised", files[row], f"line {origin[row][1]}", line.hull, remedy)
            elif line.vote == "box" and self._lines == "auto":
                value = f"{line.count} numbers, of which the first four are a box around the others"
                remedy = f"It is taken as an outline, as most lines of the set are. {_ARGUMENT}"
                self.problems.add(Problem("outline like a box", files[row], f"line {origin[row][1]}", value, remedy))
        for file in dict.fromkeys(file for row, file in files.items() if not np.isnan(table[row, 1])):
            if file in boxed:
                remedy = "Both are kept; outlines are replaced by their bounding boxes"
                self.problems.add(Problem("boxes and outlines in one file", file, "", "mixed lines", remedy))
        return dropped


def _key_point_numbers(folder: YoloFolder) -> int | None:
    """Numbers per line from the yaml's `kpt_shape`; None where it has none."""
    if (shape := folder.content.get("kpt_shape")) is None:
        return None
    if not isinstance(shape, list) or not shape or not all(is_whole(n) and n > 0 for n in shape):
        raise UserError(f"{folder.file}: kpt_shape = {str(shape)[:200]}. Give [number of points, 2 or 3], or remove it")
    return 4 + math.prod(shape)


def _read_files(image: str) -> tuple[tuple[tuple[int, int], int] | ValueError, list[str] | None]:
    """(`image_header` or its error, lines of the label file or None where there is none)."""
    try:
        header: tuple[tuple[int, int], int] | ValueError = image_header(image)
    except ValueError as error:
        header = error
    try:
        with open(label_file(image), encoding="utf-8-sig", errors="replace", opener=regular_only) as file:
            return header, file.read().splitlines()
    except FileNotFoundError:
        return header, None
    except OSError as error:
        raise UserError(f"{label_file(image)}: cannot be read: {error}. Make it a readable text file") from error
