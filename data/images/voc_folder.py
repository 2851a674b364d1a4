"""Find the images and xml files of a VOC dataset and pair them, by its lists or by file names."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..dataset import MissingSplit
from ..files import regular_only, text_lines, walk
from ..problems import Problem, Problems
from ..split_shares import ADVICE
from .dataset import split_names
from .image_file import ENDINGS
from .label_paths import is_file_name, path_below

LISTS = ("ImageSets/Main/{}.txt", "ImageSets/{}.txt")
_SECOND_COLUMN = re.compile(r"\s+(-1|0|1)$")
_FILENAME = re.compile(rb"<filename>\s*(?:[^<]*[/\\])?([^</\\]+?)\s*</filename>")
_HEAD = 1 << 16  # bytes at the beginning of an xml file that are searched for its outermost tag and <filename>
# Folders named by their content; the other folders of a path give the split.
_KINDS = {"annotations", "annotation", "xml", "xmls", "labels", "jpegimages", "images", "image", "imgs"}


@dataclass(frozen=True)
class Labelled:
    """An image with its label; either may be absent. split: their folder, without those of `_KINDS`"""

    label: Path
    image: str
    split: str = ""


def labelled_images(root: Path, split: str, problems: Problems) -> tuple[Path, list[Labelled]]:
    """(list or folder that they come from, images of `split`). `split` may join several, each in its own folder:
    "VOC2007/trainval+VOC2012/trainval"."""
    entries: dict[Labelled, None] = {}
    sources = []
    for part in split.split("+"):
        source, found = _of_split(root, part.strip(), problems)
        sources.append(source)
        entries |= dict.fromkeys(found)
    return (sources[0] if len(sources) == 1 else root), list(entries)


def label_files(folder: Path) -> list[Path]:
    """All xml files of a dataset, of all splits."""
    labels = folder / "Annotations"
    files = walk(labels) if labels.is_dir() else (path for path in walk(folder) if _is_annotation(path))
    return sorted(Path(path) for path in files if path.lower().endswith(".xml"))


def all_labelled(folder: Path, problems: Problems) -> list[Labelled]:
    """All images below `folder` that have a label file; unpaired files are added to `problems`."""
    entries, lonely = _pairs(folder)
    _report(folder, entries, lonely, problems)
    return entries


def _of_split(root: Path, part: str, problems: Problems) -> tuple[Path, list[Labelled]]:
    place, _, name = part.rpartition("/")
    folder = root / place
    if (file := _list_file(folder, name)) is not None:
        return file, _read_list(folder, file, problems)
    lists = sorted(path.stem for path in (folder / "ImageSets").rglob("*.txt"))
    entries, lonely = _pairs(folder) if folder.is_dir() and not lists else ([], [])
    here = [entry for entry in entries if _is_called(entry.split, name)]
    if here:
        _report(folder, here, [path for path in lonely if _is_called(_first(_key(path, folder)), name)], problems)
        return folder, here
    remedy = f"There are {', '.join(lists)}" if lists else f"No folder {name} holds images with xml files, either"
    if entries:
        remedy += f", but other folders hold {len(entries)}"
    raise MissingSplit(f"split {part!r}: no file {folder / LISTS[0].format(name)}. {remedy}. {ADVICE}")


def _pairs(folder: Path) -> tuple[list[Labelled], list[str]]:
    """(images below `folder` with their xml files, images without). The image of an xml file is, in this order: the one
    of the same name in the same folder, in a parallel folder of `_KINDS`, anywhere if it is the only one, or the one in
    its <filename>."""
    files = sorted(walk(folder))
    images = [path for path in files if path.lower().endswith(ENDINGS)]
    by_key = _index(images, lambda path: _key(path, folder))
    by_stem, by_name = _index(images, _stem), _index(images, os.path.basename)
    entries = []
    for path in files:
        if not path.lower().endswith(".xml"):
            continue
        key, alike = _key(path, folder), by_stem[_stem(path)]
        beside = [image for image in alike if os.path.dirname(image) == os.path.dirname(path)]
        found = beside or by_key[key] or (alike if len(alike) == 1 else [])
        if not found and not _is_annotation(path):
            continue  # some other xml file
        named = by_name[_named_image(path)] if not found else []
        found = found or (named if len(named) == 1 else [])
        image = found[0] if found else os.path.splitext(path)[0] + ".jpg"
        entries.append(Labelled(Path(path), image, _first(_key(image, folder)) or _first(key)))
    used = {entry.image for entry in entries}
    return sorted(entries, key=lambda entry: entry.image), [path for path in images if path not in used]


def _report(folder: Path, entries: list[Labelled], lonely: list[str], problems: Problems) -> None:
    if lonely:
        value = f"{len(lonely)} of {len(lonely) + len(entries)} images, the first is {lonely[0]}"
        remedy = "They are left out; one without objects needs an xml file without <object>"
        problems.add(Problem("images without label file", folder, "", value, remedy))
    first: dict[str, Labelled] = {}
    for entry in entries:
        if (other := first.setdefault(entry.image, entry)) is not entry:
            value = f"{other.label} and {entry.label}"
            remedy = "Move one of them out of the folder"
            problems.add(Problem("image with two label files", entry.image, "", value, remedy, fatal=True))


def _is_called(folder: str, split: str) -> bool:
    return folder.lower() in [name.lower() for name in split_names(split)]


def _first(key: str) -> str:
    """The first folder of a key; "" where it has none."""
    return key.partition("/")[0] if "/" in key else ""


def _list_file(folder: Path, name: str) -> Path | None:
    tried = [folder / place.format(known) for known in split_names(name) for place in LISTS]
    return next((file for file in tried if file.is_file()), None)


def _read_list(folder: Path, file: Path, problems: Problems) -> list[Labelled]:
    """Images of a list, whose lines are paths below JPEGImages."""
    images, labels = _by_path(folder / "JPEGImages"), _by_path(folder / "Annotations")
    named = [_named(line, folder, images) for line in text_lines(file)]
    counts, paths = Counter(stem for stem, _ in named), dict(reversed(named))
    for stem, count in counts.items():
        if count > 1:
            problems.add(Problem("image listed again", file, stem, f"{count} times", "It is used once"))
    below = dict.fromkeys(name for name in counts if is_file_name(name) and path_below(folder / "JPEGImages", name))
    for name in (name for name in counts if name not in below):
        remedy = f"Write it relative to {folder / 'JPEGImages'}"
        value = "leads out of its folder, or is no name of a file"
        problems.add(Problem("image outside the image folder", file, ascii(name), value, remedy, fatal=True))
    return [Labelled(Path(labels.get(s, str(folder / "Annotations" / f"{s}.xml"))), paths[s]) for s in below]


def _by_path(folder: Path) -> dict[str, str]:
    """{path below `folder` without suffix: path} of its files, also by name alone where a name occurs once. Files with
    the suffix of an image or label take precedence."""
    files = sorted(walk(folder), reverse=True)
    files.sort(key=lambda path: path.lower().endswith((*ENDINGS, ".xml")))
    by_path = {Path(os.path.relpath(path, folder)).with_suffix("").as_posix(): path for path in files}
    stems = Counter(path.rpartition("/")[2] for path in by_path)
    by_stem = {stem: path for key, path in by_path.items() if stems[stem := key.rpartition("/")[2]] == 1}
    return by_stem | by_path


def _named(line: str, folder: Path, images: dict[str, str]) -> tuple[str, str]:
    """(stem, path) of the image in a line: its stem or, from some exporters, its name with a suffix."""
    # Lists of one class have a second column (1, -1, 0), which may also be the end of an image's name.
    name = line if line in images else _SECOND_COLUMN.sub("", line)
    stem, ending = os.path.splitext(name)
    if name not in images and ending.lower() in ENDINGS:
        return stem, str(folder / "JPEGImages" / name)
    return name, images.get(name, str(folder / "JPEGImages" / f"{name}.jpg"))


def _index(paths: list[str], key: Callable[[str], str]) -> defaultdict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        found[key(path)].append(path)
    return found


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _key(path: str, folder: Path) -> str:
    """("/data/train/images/a.jpg", "/data") -> "train/a" """
    *folders, name = Path(os.path.relpath(path, os.path.abspath(folder))).with_suffix("").parts
    return "/".join([part for part in folders if part.lower() not in _KINDS] + [name])


def _is_annotation(path: str) -> bool:
    return b"<annotation" in _head(path)


def _named_image(path: str) -> str:
    match = _FILENAME.search(_head(path))
    return match[1].decode("utf-8", "replace") if match else ""


def _head(path: str) -> bytes:
    try:
        with open(path, "rb", opener=regular_only) as file:
            return file.read(_HEAD)
    except OSError:
        return b""
