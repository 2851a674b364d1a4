"""Find the images, labels and class names of a YOLO dataset, from its yaml or .data file or by usual folder names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from registry import UserError

from ..dataset import MissingSplit
from ..files import read_yaml, regular_only, text_lines, walk
from ..split_shares import ADVICE
from ..type_checks import class_list
from .dataset import split_names
from .image_file import ENDINGS
from .label_paths import is_file_name, path_below

YAML = (".yaml", ".yml")
PLACES = ("images/{}", "{}/images", "{}", "{}.txt")  # of the images of a split, without a yaml file
NAMES = ("classes.txt", "{}/classes.txt", "{}/labels/classes.txt", "*.names", "_darknet.labels", "{}/_darknet.labels")
_ALL = ("train", "val", "test")


class YoloFolder:
    """file: yaml or .data file relative to `root`; None: the only one there, if any"""

    def __init__(self, root: Path, file: str | None):
        self.root, self.file = root, self._find_file(root, file)
        self.content = {} if self.file is None else _read(self.file)

    @staticmethod
    def _find_file(root: Path, name: str | None) -> Path | None:
        if name is not None:
            if not (root / str(name)).is_file():
                raise UserError(f"{root / str(name)}: no such file. `yaml` is relative to {root}")
            return root / name
        files = sorted(path for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
        found = [path for path in files if path.suffix in YAML] or [path for path in files if path.suffix == ".data"]
        if len(found) > 1:  # others may be configs of a trainer
            found = [path for path in found if path.suffix in YAML and _names_classes(path)] or found
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise UserError(f"{root}: holds {names}. Name the one of the data set, as in yaml: {found[0].name}")
        return found[0] if found else None

    @property
    def _base(self) -> Path:
        """The folder that the file's entries are relative to."""
        assert self.file is not None
        base = self.file.parent / str(self.content.get("path") or "")
        if not base.is_dir():
            remedy = "Correct it, or remove it where the yaml file lies in the data set's folder"
            raise UserError(f"{self.file}: path = {self.content['path']}: no folder {base}. {remedy}")
        return base

    def class_names(self) -> list[str]:
        names = self.content.get("names")
        if isinstance(names, str) and self.file is not None and self.file.suffix == ".data":
            place = _resolve(names, [self._base])
            if place is None:
                raise UserError(f"{self.file}: names = {names}: no such file below {self._base}. Correct it")
            return class_list(text_lines(place), str(place))
        if names is None:
            return self._names_beside()
        if isinstance(names, dict):
            numbered = {int(k) if str(k).isdecimal() else k: name for k, name in names.items()}
            if len(numbered) < len(names) or set(numbered) != set(range(len(numbered))):
                shown = str(names)[:200]
                raise UserError(f"{self.file}: names = {shown}. Give a list, or one name for each of 0, 1, 2, ...")
            names = [numbered[k] for k in range(len(numbered))]
        return class_list(names, f"{self.file}: names")

    def _names_beside(self) -> list[str]:
        """Class names from a text file with a name per line, in one of the places `NAMES`."""
        folders = ["labels", "images", *(name for split in _ALL for name in split_names(split))]
        patterns = [place.format(folder) for place in NAMES for folder in (folders if "{}" in place else [""])]
        found = {path: text_lines(path) for pattern in patterns for path in sorted(self.root.glob(pattern))}
        if len({tuple(names) for names in found.values()}) > 1:
            raise UserError(f"{_listing(found)}: name different classes. Give class_names: [first, second]")
        for path, names in found.items():
            return class_list(names, str(path))
        remedy = "Give class_names: [first, second], or `names` in the data set's yaml file"
        tried = f"there is no {self.root / 'classes.txt'} or {self.root / 'labels' / 'classes.txt'}"
        raise UserError(f"{self.file or self.root}: names no class, and {tried}. {remedy}")

    def images(self, split: str) -> tuple[Path, list[str]]:
        """(file or folder that lists them, image paths of `split`)"""
        if self.file is not None:
            entry = next((self.content[name] for name in split_names(split) if self.content.get(name)), None)
            if entry is None:
                held = _listing(key for key in self.content)
                raise MissingSplit(
                    f"split {split!r}: {self.file} names no images for it. It holds {held}. Name them, or {ADVICE}"
                )
            return self._listed(split, entry)
        tried = [self.root / place.format(name) for name in split_names(split) for place in PLACES]
        for place in tried:
            if place.is_dir():
                return place, in_folder(place)
            if place.is_file():
                return place, _in_list(place, self.root, self.root)
        remedy = f"Make one, or write a yaml file that names the folders; {ADVICE}"
        raise MissingSplit(f"split {split!r}: {self.root} holds no yaml file, and no {_listing(tried)}. {remedy}")

    def all_images(self) -> tuple[Path, list[str]]:
        """Like `images`, for all splits: those of the file, otherwise all images below `images` or `root`."""
        paths: dict[str, None] = {}
        for split in _ALL if self.file is not None else ():
            try:
                paths |= dict.fromkeys(self.images(split)[1])
            except MissingSplit:
                continue  # exporters list folders that they do not write
        if paths and self.file is not None:
            return self.file, list(paths)
        base = self.root if self.file is None else self._base
        folder = base / "images" if (base / "images").is_dir() else base
        return folder, in_folder(folder)

    def _listed(self, split: str, entry: Any) -> tuple[Path, list[str]]:
        base, places = self._base, []
        for name in entry if isinstance(entry, list) else [entry]:
            place = _resolve(str(name), [base])
            if place is None:
                remedy = f"Name a folder, or a .txt list of images, relative to {base}"
                raise MissingSplit(f"{self.file}: split {split!r}: no {base / str(name)}. {remedy}")
            places.append(place)
        paths = [
            path
            for place in places
            for path in (in_folder(place) if place.is_dir() else _in_list(place, base, self.root))
        ]
        assert self.file is not None
        return (places[0] if len(places) == 1 else self.file), paths


def label_file(image: str) -> str:
    """Path of an image's label file: the last folder `images` replaced by `labels`, and the suffix by .txt."""
    head, images, tail = image.rpartition(f"{os.sep}images{os.sep}")
    place = f"{head}{os.sep}labels{os.sep}{tail}" if images else image
    return os.path.splitext(place)[0] + ".txt"


def in_folder(folder: Path) -> list[str]:
    """Images in `folder` and below, without hidden ones, and the missing images of labels without an image."""
    images = [path for path in walk(folder) if path.lower().endswith(ENDINGS)]
    labelled = {label_file(path) for path in images}
    top = os.path.abspath(folder)
    labels = os.path.dirname(label_file(os.path.join(top, "a")))
    lonely = [path for path in walk(Path(labels)) if path not in labelled and _is_label(path)]
    return sorted(images + [os.path.join(top, os.path.relpath(path, labels))[:-4] + ".jpg" for path in lonely])


def _is_label(path: str) -> bool:
    """Whether a text file begins with a label line; lists, read-mes and classes.txt do not."""
    if not path.endswith(".txt"):
        return False
    with open(path, encoding="utf-8-sig", errors="replace", opener=regular_only) as file:
        columns = file.readline().split()
    return len(columns) >= 5 and columns[0].isdigit()


def _read(file: Path) -> dict[str, Any]:
    """Entries of a yaml file, or of a Darknet .data file (lines `key = value`), whose `classes` is called `nc`."""
    if file.suffix == ".data":
        pairs = [line.partition("=") for line in text_lines(file) if not line.startswith("#")]
        content: Any = {key.strip(): value.strip() for key, _, value in pairs}
        return {"nc" if key == "classes" else key: value for key, value in content.items()}
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected keys such as train, val and names, got {str(content)[:200]!r}")
    return content


def _names_classes(file: Path) -> bool:
    try:
        content = read_yaml(file)
    except ValueError:
        return True  # reading it later raises the error
    return isinstance(content, dict) and "names" in content


def _in_list(file: Path, base: Path, root: Path) -> list[str]:
    """Images of a list, relative to its folder or to `base`, in the spelling of `_SPELLINGS` that finds most of them.
    UserError for one that is not below these or `root`."""
    lines = text_lines(file)
    some = lines[:: max(1, len(lines) // 100)]
    ways = [(place, spell) for spell in _SPELLINGS for place in (file.parent, base)]
    found = [sum((place / spell(line)).is_file() for line in some) for place, spell in ways]
    place, spell = ways[found.index(max(found))]
    paths = [os.path.abspath(place / spell(line)) for line in lines]
    for line, path in zip(lines, paths, strict=True):
        if not is_file_name(path) or not any(path_below(folder, path) for folder in (base, file.parent, root)):
            remedy = "Write it relative to that, or name the folder that it begins with: `path` in the yaml file"
            raise UserError(f"{file}: {line!a} leads out of {base}, or is no name of a file. {remedy}")
    return paths


def _resolve(name: str, places: Iterable[Path]) -> Path | None:
    return next((p for place in places for spell in _SPELLINGS if (p := place / spell(name)).exists()), None)


# Exporters write `../train/images` for what lies at `train/images`, and `data/train.txt` as Darknet is started.
_SPELLINGS = (
    str,
    lambda name: name.removeprefix("../"),
    lambda name: name.removeprefix("./").removeprefix("data/"),
    lambda name: name.replace("\\", "/"),
)


def _listing(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names))
