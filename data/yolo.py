"""YOLO labels: a yaml file that names pictures and classes, and beside the pictures text files of normalised boxes."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from yaml import YAMLError, safe_load

from .dataset import MissingSplit
from .image_dataset import OBJECT, ImageDataset, Record, split_names
from .image_file import ENDINGS, image_header, upright_size
from .problems import Problem
from .registry import register_dataset
from .regular_file import regular_only
from .values import class_list, text_lines

log = logging.getLogger(__name__)

YAML = (".yaml", ".yml")
FOLDERS = ("images/{}", "{}/images")
_STOPS = "Loading it stops a training"
_LARGEST = 2.0  # a box that ends beyond twice the picture is in pixels, not normalised


@register_dataset("yolo")
class Yolo(ImageDataset):
    """Any data set in YOLO's format. Arguments of `ImageDataset`, `root` may be the yaml file itself, and

    yaml:        the data set's yaml file, relative to `root`; None: the only one there. Without one, pictures are
                 looked for in `FOLDERS`
    class_names: names of the class ids 0, 1, ...; None: the yaml's `names`, else the lines of a classes.txt

    The yaml holds `path` (the folder all else is relative to; absent: the yaml's), for each split a folder, a .txt list
    of pictures or several of these, and `names`. The label of .../images/a/b.jpg is .../labels/a/b.txt; where no folder
    is called images it lies beside the picture. A line is `class x y w h`, centre and size as shares of the picture, or
    `class x1 y1 x2 y2 x3 y3 ...`, an outline, whose bounding box is taken. No line or no file: a picture without
    objects. Category k + 1 is label k. Pictures are turned as their EXIF orientation says. Nothing is ever written.
    """

    def __init__(
        self,
        split: str,
        *,
        root: str | Path,
        yaml: str | None = None,
        class_names: Sequence[str] | None = None,
        **common: Any,
    ):
        root = Path(root)
        if root.suffix in YAML and root.is_file():
            root, yaml = root.parent, root.name
        super().__init__(split, root=root, **common)
        file = self._find_yaml(yaml)
        content = {} if file is None else _read_yaml(file)
        given = class_names is not None
        self.class_names = class_list(class_names, "class_names") if given else self._find_names(file, content)
        if str(content.get("nc") or len(self.class_names)) != str(len(self.class_names)):
            raise ValueError(f"{file}: nc is {content['nc']}, but there are {len(self.class_names)} names. Correct one")
        self.categories = [{"id": k, "name": name} for k, name in enumerate(self.class_names, 1)]
        source, listed = self._find_folder() if file is None else self._find_entries(file, content)
        counts = Counter(listed)
        for path, count in counts.items():
            if count > 1:
                self.problems.add(Problem("picture listed again", source, path, f"{count} times", "It is used once"))
        present = self._present(list(counts), source)
        self._read([(k, path) for k, (path, here) in enumerate(zip(counts, present, strict=True), 1) if here], source)

    def _fatal(self, kind: str, file: str | Path, record: str, value: object, remedy: str) -> None:
        self.problems.add(Problem(kind, file, record, value, remedy, fatal=True))

    def _find_yaml(self, name: str | None) -> Path | None:
        if name is not None:
            if not (self.root / str(name)).is_file():
                raise ValueError(f"{self.root / str(name)}: no such file. `yaml` is relative to {self.root}")
            return self.root / name
        found = sorted(path for path in self.root.iterdir() if path.suffix in YAML)
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ValueError(f"{self.root}: holds {names}. Name the one of the data set, as in yaml: {found[0].name}")
        return found[0] if found else None

    def _find_names(self, file: Path | None, content: dict[str, Any]) -> list[str]:
        names = content.get("names")
        if names is None:
            tried = [self.root / "classes.txt", self.root / "labels" / "classes.txt"]
            for place in tried:
                if place.is_file():
                    return class_list(text_lines(place), str(place))
            remedy = "Give class_names: [first, second], or `names` in the data set's yaml file"
            raise ValueError(
                f"{file or self.root}: names no class, and there is no {' or '.join(map(str, tried))}. {remedy}"
            )
        if isinstance(names, dict) and set(names) == set(range(len(names))):
            names = [names[k] for k in range(len(names))]
        if isinstance(names, dict):
            raise ValueError(f"{file}: names = {str(names)[:200]}. Give a list, or one name for each of 0, 1, 2, ...")
        return class_list(names, f"{file}: names")

    def _find_folder(self) -> tuple[Path, list[str]]:
        """Without a yaml: (folder of the split's pictures, their paths)."""
        tried = [self.root / place.format(name) for name in split_names(self.split) for place in FOLDERS]
        for folder in tried:
            if folder.is_dir():
                return folder, _in_folder(folder)
        remedy = "Make one, or write a yaml file that names the folders"
        raise MissingSplit(f"split {self.split!r}: {self.root} holds no yaml file, and no {_listing(tried)}. {remedy}")

    def _find_entries(self, file: Path, content: dict[str, Any]) -> tuple[Path, list[str]]:
        """(yaml file, or the one list it names; paths of the split's pictures)"""
        base = file.parent / str(content.get("path") or "")
        if not base.is_dir():
            remedy = "Correct it, or remove it where the yaml file lies in the data set's folder"
            raise ValueError(f"{file}: path = {content['path']}: no folder {base}. {remedy}")
        entry = next((content[name] for name in split_names(self.split) if content.get(name)), None)
        if entry is None:
            raise MissingSplit(f"split {self.split!r}: {file} names no pictures for it. It holds {_listing(content)}")
        places = []
        for name in entry if isinstance(entry, list) else [entry]:
            tried = [base / str(name)]
            # Exporters write `../train/images` for what lies at `train/images`.
            tried += [base / name[3:]] if isinstance(name, str) and name.startswith("../") else []
            places += [place for place in tried if place.exists()][:1]
            if not any(place.exists() for place in tried):
                remedy = f"Name a folder, or a .txt list of pictures, relative to {base}"
                raise MissingSplit(f"{file}: split {self.split!r}: no {_listing(tried)}. {remedy}")
        paths = [path for place in places for path in (_in_folder(place) if place.is_dir() else _in_list(place, base))]
        return (places[0] if len(places) == 1 else file), paths

    def _read(self, pictures: list[tuple[int, str]], source: Path) -> None:
        """Records of (image id, path), in order. Files are read side by side, problems reported in order."""
        self.records = []
        rows: list[tuple[float, ...]] = []  # label, then x1, y1, x2, y2 as shares
        origin: list[tuple[int, int]] = []  # of each row: index of its record, number of its line
        unlabelled = 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            files = pool.map(_read_files, (path for _, path in pictures))
            for (image_id, path), (size, lines) in zip(pictures, files, strict=True):
                if isinstance(size, ValueError):
                    self._fatal("unreadable picture", path, "", str(size).removeprefix(f"{path}: "), _STOPS)
                    continue
                unlabelled += lines is None
                for number, line in enumerate(lines or (), 1):
                    row = self._parse(path, number, line) if line.strip() else None
                    if row is not None:
                        rows.append(row)
                        origin.append((len(self.records), number))
                self.records.append(Record(image_id, path, *size, np.zeros(0, OBJECT), upright=True))
        if unlabelled and unlabelled == len(pictures):
            value = f"none of {unlabelled} pictures has one; the first is looked for at {label_file(pictures[0][1])}"
            self._fatal(
                "no label files", source, "", value, "Put them there, or empty ones for pictures without objects"
            )
        elif unlabelled:
            log.warning("%s: %d of %d pictures have no label file: without objects", source, unlabelled, len(pictures))
        owner = np.array([record for record, _ in origin], np.int64)

        def describe(i: int) -> tuple[str, str, str]:
            record, (x1, y1, x2, y2) = self.records[owner[i]], rows[i][1:]
            shown = ", ".join(f"{v:g}" for v in ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))
            return (
                label_file(record.path),
                f"line {origin[i][1]}",
                f"x, y, w, h = {shown} of {record.width}x{record.height}",
            )

        objects = np.zeros(len(rows), OBJECT)
        table = np.array(rows, np.float64).reshape(-1, 5)
        scale = np.array([(r.width, r.height, r.width, r.height) for r in self.records]).reshape(-1, 4)[owner]
        objects["label"], objects["box"], objects["area"] = table[:, 0], table[:, 1:] * scale, np.nan
        self._place(objects, owner, describe)

    def _parse(self, path: str, number: int, line: str) -> tuple[float, ...] | None:
        """(label, x1, y1, x2, y2) of a line; None where a collected problem says what is wrong with it."""
        where, shown = f"line {number}", line.strip()[:200]
        try:
            label, *numbers = map(float, line.split())
        except ValueError:
            label, numbers = math.nan, []
        outline = len(numbers) >= 6 and len(numbers) % 2 == 0
        if not label.is_integer() or not (outline or len(numbers) == 4):
            remedy = "It needs `class x y w h`, or `class x1 y1 x2 y2 x3 y3 ...`, and nothing else"
            self._fatal("malformed line", label_file(path), where, shown, remedy)
        elif not 0 <= label < len(self.class_names):
            remedy = f"Correct it, or name it: classes are 0 to {len(self.class_names) - 1}"
            self._fatal("unknown class", label_file(path), where, shown, remedy)
        elif any(_LARGEST < value < math.inf for value in numbers):
            remedy = "Divide by the picture's width and height: 1 is its far edge"
            self._fatal("coordinates not normalised", label_file(path), where, shown, remedy)
        elif outline:
            points = np.array(numbers).reshape(-1, 2)
            return label, *points.min(0).tolist(), *points.max(0).tolist()  # NaN where one is
        else:
            x, y, w, h = numbers
            return label, x - w / 2, y - h / 2, x + w / 2, y + h / 2
        return None


def label_file(picture: str) -> str:
    """Where the label of a picture is: the last folder `images` called `labels`, and .txt."""
    head, images, tail = picture.rpartition(f"{os.sep}images{os.sep}")
    place = f"{head}{os.sep}labels{os.sep}{tail}" if images else picture
    return os.path.splitext(place)[0] + ".txt"


def _read_files(picture: str) -> tuple[tuple[int, int] | ValueError, list[str] | None]:
    """((width, height) upright or what is wrong with the picture, lines of its label or None where there is none)."""
    try:
        size: tuple[int, int] | ValueError = upright_size(*image_header(picture))
    except ValueError as error:
        size = error
    try:
        with open(label_file(picture), encoding="utf-8-sig", errors="replace", opener=regular_only) as file:
            return size, file.read().splitlines()
    except FileNotFoundError:
        return size, None
    except OSError as error:
        raise ValueError(f"{label_file(picture)}: cannot be read: {error}. Make it a readable text file") from error


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        with open(file, encoding="utf-8-sig", opener=regular_only) as text:
            content = safe_load(text.read())
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{file}: not a readable yaml file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected keys such as train, val and names, got {str(content)[:200]!r}")
    if "kpt_shape" in content:
        raise ValueError(f"{file}: kpt_shape: labels with key points are not read. Write lines of `class x y w h`")
    return content


def _in_folder(folder: Path) -> list[str]:
    """Pictures in `folder` and below, hidden ones left out, and for labels without a picture the one that lacks."""
    pictures = [path for path in _walk(folder) if path.lower().endswith(ENDINGS)]
    labelled = {label_file(path) for path in pictures}
    top = os.path.abspath(folder)
    labels = os.path.dirname(label_file(os.path.join(top, "a")))
    lonely = [path for path in _walk(Path(labels)) if path not in labelled and _is_label(path)]
    return sorted(pictures + [os.path.join(top, os.path.relpath(path, labels))[:-4] + ".jpg" for path in lonely])


def _walk(folder: Path) -> Iterable[str]:
    for place, folders, names in os.walk(os.path.abspath(folder), followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_back(place, name)]
        yield from (os.path.join(place, name) for name in names if not name.startswith("."))


def _leads_back(place: str, name: str) -> bool:
    """A link to a folder that it lies in: following it would never end."""
    link = os.path.join(place, name)
    return os.path.islink(link) and Path(os.path.realpath(place)).is_relative_to(os.path.realpath(link))


def _is_label(path: str) -> bool:
    """A text file that begins with a class id: no list, no read-me, no classes.txt."""
    if not path.endswith(".txt"):
        return False
    with open(path, encoding="utf-8-sig", errors="replace", opener=regular_only) as file:
        columns = file.readline().split()
    return len(columns) >= 5 and columns[0].isdigit()


def _in_list(file: Path, base: Path) -> list[str]:
    """Pictures that a list names, relative to its folder or to `base`: where the first one is."""
    lines = text_lines(file)
    places = [place for place in (file.parent, base) if lines and (place / lines[0]).is_file()]
    return [os.path.abspath((places or [file.parent])[0] / line) for line in lines]


def _listing(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names))
