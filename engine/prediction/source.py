"""Find what SOURCE of predict.py names: a file, folder, glob or camera, and which of its files a checkpoint reads."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from pathlib import Path

from data.files import walk
from data.images.image_file import ENDINGS as IMAGES
from data.images.video import ENDINGS as VIDEOS
from registry import UserError

RECORDINGS = (".dat", ".raw", ".h5", ".hdf5", ".npz", ".bin")
KINDS = {"image": IMAGES, "video": VIDEOS, "recording": RECORDINGS}
READS = {"image": ("image", "video"), "events": ("recording",)}  # by kind of input


@dataclass
class Source:
    """Files to predict on, in order.

    files:   {kind of `KINDS`: paths}
    camera:  its index, in place of files
    base:    folder that names in the results are relative to
    left_out: files of a folder or glob that the checkpoint does not read, and folders that a glob matches
    """

    name: str
    base: Path
    files: dict[str, list[Path]] = field(default_factory=dict)
    camera: int | None = None
    left_out: list[Path] = field(default_factory=list)


def find_source(source: str, reads: str, checkpoint: Path) -> Source:
    """reads: kind of the checkpoint's input, "image" or "events".

    UserError where nothing is there, or nothing that the checkpoint reads."""
    if not source:
        raise UserError("SOURCE is empty: give an image, folder, glob, video, recording or camera index")
    path = Path(source).expanduser()
    if source.isdecimal() and not path.exists():
        if reads != "image":
            raise UserError(f"camera {source}: gives images, but {_trained(checkpoint, reads)}")
        return Source(f"camera_{source}", Path(), camera=int(source))
    if path.is_dir():
        return _sorted(source, path, sorted(Path(file) for file in walk(path)), reads, checkpoint, "folder")
    if path.exists():
        kind = kind_of(path)
        if kind is not None and kind not in READS[reads]:
            article = "an image" if kind == "image" else f"a {kind}"
            raise UserError(f"{source}: is {article}, but {_trained(checkpoint, reads)}")
        return Source(path.stem, path.parent, {kind or READS[reads][0]: [path]})
    if any(character in source for character in "*?["):
        matched = sorted(Path(file).absolute() for file in glob.glob(str(path), recursive=True))
        found = [file for file in matched if not file.is_dir()]
        if not found and matched:
            raise UserError(f"{source}: matches folders alone. Name one of them, or add /* for the files in them")
        if not found:
            raise UserError(f"{source}: no file matches. Put it in quotes, and look at the folder")
        base = Path(os.path.commonpath([file.parent for file in found]))
        taken = _sorted(source, base, found, reads, checkpoint, "glob")
        entered = {folder for file in found for folder in file.parents}
        taken.left_out += [folder for folder in matched if folder.is_dir() and folder not in entered]
        return taken
    raise UserError(f"{source}: no such file or folder. Give an image, folder, glob, video, recording or camera index")


def kind_of(path: Path) -> str | None:
    """The kind of `KINDS`, by the suffix."""
    return next((kind for kind, endings in KINDS.items() if path.suffix.lower() in endings), None)


def _sorted(source: str, base: Path, found: list[Path], reads: str, checkpoint: Path, what: str) -> Source:
    base = base.absolute()
    files = {kind: [path for path in found if kind_of(path) == kind] for kind in READS[reads]}
    files = {kind: paths for kind, paths in files.items() if paths}
    if not files:
        endings = " ".join(ending for kind in READS[reads] for ending in KINDS[kind])
        count = f"{len(found)} file{'' if len(found) == 1 else 's'}"
        held = f"{'holds' if what == 'folder' else 'matches'} {count}" if found else "is empty"
        raise UserError(f"{source}: the {what} {held}, none with one of {endings}; {_trained(checkpoint, reads)}")
    taken = {path for paths in files.values() for path in paths}
    return Source(base.name or "all", base, files, left_out=[path for path in found if path not in taken])


def _trained(checkpoint: Path, reads: str) -> str:
    if reads == "image":
        return f"{checkpoint} was trained on images: give images or a video, or a checkpoint trained on events"
    return f"{checkpoint} was trained on recordings of events: give one, or a checkpoint trained on images"
