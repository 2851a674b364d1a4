"""Base class of the image datasets (`ImageDataset`): label records, their validation, loading of samples.

A whole label file is read in one EXIF orientation: boxes refer to the images as stored, or rotated (`orientation.py`).
An image whose size differs from its label's is an error.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from registry import UserError, none_of

from ..dataset import DetectionDataset
from ..problems import Problem, Problems
from ..sample import Placement, Sample
from ..split_shares import split_shares
from .augment import image_augment
from .cache import ImageCache, disk_cache, memory_cache
from .image_file import UnreadableImage, read_image
from .input import GRAY, ImageInput, channels_first
from .label_paths import is_file_name, which_are_files
from .mosaic import Labelled
from .orientation import CHOICES
from .record import Record
from .sizes import other_size, settle_sizes
from .valid_boxes import valid_boxes

log = logging.getLogger(__name__)

CACHES = ("none", "ram", "disk")
_SPLITS = {"val": ("valid", "validation")}  # other names of splits in exported datasets
_LEFT_OUT = "such images are left out, and scores say how many"


class ImageDataset(DetectionDataset):
    """Images with boxes. A subclass's constructor reads its labels into `records` and names `categories`.

    size:          int, or (height, width), of `Sample.x`; the image is letterboxed into it
    augment:       options of `ImageAugment`, such as {"hflip": 0.5}
    orientation:   images that boxes refer to, where images have an EXIF orientation: "turned" (rotated by it) or
                   "stored" (as decoded); "auto": detected from the labels of the split
    allow_missing: leave out images whose file is absent or damaged; they still count in `expected_images`
    cache:         "ram" or "disk": each image is decoded once, and the workers of a loader share the pixels
    cache_dir:     the folder of a cache on disk; None: `.spikesight_cache` in `root`
    rectangular:   pad the resized image only to multiples of 32, so samples differ in shape
    splits:        {train: 0.8, val: 0.1, test: 0.1}: random shares of all labelled images below `root`, in place of
                   its own splits; for subclasses that set `own_splits` and pass all images to `_present`
    split_seed, split_group: arguments of `SplitShares`, applied to paths relative to `root`
    """

    channels, scale, num_steps = ImageInput.channels, ImageInput.scale, ImageInput.num_steps
    own_splits = False

    input: ImageInput
    records: list[Record]
    categories: list[dict[str, Any]]  # id and name; label k is categories[k]
    _cache: ImageCache | None

    def __init__(
        self,
        split: str,
        *,
        root: str | Path,
        size: int | Sequence[int] = (640, 640),
        augment: dict[str, Any] | None = None,
        orientation: str = "auto",
        allow_missing: bool = False,
        problems: Problems | None = None,
        cache: str = "none",
        cache_dir: str | Path | None = None,
        rectangular: bool = False,
        splits: Mapping[str, float] | None = None,
        split_seed: int = 0,
        split_group: str | None = None,
    ):
        self.input = ImageInput(size, rectangular)
        self.split, self.root, self.size = split, Path(root), self.input.size
        if not self.root.is_dir():
            raise UserError(f"{self.root}: no such folder. `root` is the folder that holds labels and images")
        self.problems = Problems() if problems is None else problems
        self._warned: set[str] = set()  # unreadable images that were logged
        self._allow_missing, self._orientation = allow_missing, orientation
        if orientation not in CHOICES:
            raise UserError(none_of(f"orientation = {orientation!r}", orientation, CHOICES))
        if cache not in CACHES:
            raise UserError(none_of(f"cache = {cache!r}", cache, CACHES))
        if cache_dir is not None and cache != "disk":
            raise UserError(f"cache_dir = {cache_dir}: only cache = disk has a folder, cache is {cache}")
        if rectangular and augment:
            raise UserError("rectangular = true: augmented samples have one shape. Leave it out, it is for evaluation")
        self._cache_kind, self._cache = cache, None
        self._cache_dir = self.root / ".spikesight_cache" if cache_dir is None else Path(cache_dir)
        self._augment = image_augment(self.input, augment)
        self._shares = None if splits is None else split_shares(splits, split_seed, split_group)
        if self._shares is None and (split_group is not None or split_seed):
            raise UserError(
                "split_seed and split_group belong to data.splits, which is not set. Set it, or leave them out"
            )
        if self._shares is not None and not self.own_splits:
            raise UserError(f"splits = {splits}: {type(self).__name__} has splits of its own. Leave it out")

    def __len__(self) -> int:
        return len(self.records)

    def load(self, index: int, rng: np.random.Generator, epochs_left: int | None = None) -> Sample:
        """ValueError for an image that cannot be decoded. With `allow_missing`, training uses the next image instead,
        and evaluation an unlabelled sample, which is not scored."""
        change = self._augment.draw(index, len(self), rng, epochs_left)
        replace_damaged = self._allow_missing and epochs_left is not None
        try:
            chosen = [self._readable(k, replace_damaged) for k in change.indices]
        except UnreadableImage as error:
            if epochs_left is not None or not self._allow_missing:
                raise UserError(str(error)) from error  # a plain type, which workers can pass on
            return self._unlabelled(index)
        image, boxes, labels, place = self._augment(change, [labelled for _, labelled in chosen])
        return self._sample(chosen[0][0], image, boxes, labels, place)

    def _readable(self, index: int, replace_damaged: bool) -> tuple[int, Labelled]:
        """(index, image with boxes) of image `index`; if `replace_damaged`, of the next one that can be decoded."""
        for k in range(index, index + (len(self) if replace_damaged else 1)):
            with self._left_out():
                return k % len(self), self._labelled(k % len(self))
        raise UnreadableImage(f"{self.root}: none of {len(self)} images of split {self.split!r} can be decoded")

    def _unlabelled(self, index: int) -> Sample:
        """A gray, unlabelled sample for an image that cannot be decoded."""
        original = self.records[index].height, self.records[index].width
        image = np.full((*self.input.shape(original), 3), GRAY, np.uint8)
        nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        return replace(self._sample(index, image, *nothing, self.input.placement(original)), labelled=False)

    @contextmanager
    def _left_out(self) -> Iterator[None]:
        """With `allow_missing`, log an unreadable image once per process; otherwise raise its error."""
        try:
            yield
        except UnreadableImage as error:
            if not self._allow_missing:
                raise UnreadableImage(f"{error}, or set data.allow_missing=true: {_LEFT_OUT}") from error
            if str(error) not in self._warned:
                log.warning("%s: it is left out", error)
            self._warned.add(str(error))

    def _sample(self, index: int, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, place: Placement) -> Sample:
        record = self.records[index]
        return Sample(
            x=channels_first(image),
            boxes=torch.from_numpy(boxes),
            labels=torch.from_numpy(labels),
            image_id=record.image_id,
            original_size=(record.height, record.width),
            placement=place,
        )

    def shape_of(self, index: int) -> tuple[int, int] | None:
        record = self.records[index]
        return self.input.shape((record.height, record.width)) if self.input.rectangular else None

    def open_cache(self) -> None:
        if self._cache is None and self._cache_kind != "none":
            shapes = [(record.height, record.width) for record in self.records]
            if self._cache_kind == "ram":
                self._cache = memory_cache(shapes)
            else:
                sources = [(record.path, record.upright) for record in self.records]
                self._cache = disk_cache(self._cache_dir, self.split, shapes, sources)

    def _labelled(self, index: int) -> Labelled:
        record = self.records[index]
        image = None if self._cache is None else self._cache.read(index)
        if image is None:
            image = read_record(record)
            if self._cache is not None:
                self._cache.write(index, image)
        return image, record.targets["box"], record.targets["label"]

    def ground_truth(self) -> dict[str, Any]:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for record in self.records:
            name = Path(os.path.relpath(record.path, self.root)).as_posix()
            size = {"width": record.width, "height": record.height}
            images.append({"id": record.image_id, "file_name": name, **size})
            objects = record.objects
            columns = (objects[name].tolist() for name in ("box", "label", "area", "iscrowd", "difficult"))
            for (x1, y1, x2, y2), label, area, iscrowd, difficult in zip(*columns, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,  # pycocotools ignores an object of id 0
                        "image_id": record.image_id,
                        "category_id": self.categories[label]["id"],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": area,
                        "iscrowd": int(iscrowd),
                        "difficult": int(difficult),
                    }
                )
        return {"images": images, "annotations": annotations, "categories": [dict(c) for c in self.categories]}

    def box_sizes(self) -> np.ndarray:
        sizes = [np.zeros((0, 2))]
        for record in self.records:
            boxes = record.targets["box"]
            place = self.input.placement((record.height, record.width))
            sizes.append((boxes[:, 2:] - boxes[:, :2]) * (place.scale_x, place.scale_y))
        return np.concatenate(sizes).astype(np.float32)

    def _settle(
        self,
        objects: np.ndarray,
        owner: np.ndarray,
        describe: Callable[[int], tuple[str | Path, str, object]],
        source: Path,
    ) -> np.ndarray:
        """`_place` for records with sizes from the labels, 0 where the label has none. `settle_sizes` first sets them
        from the image headers. Unusable records are removed."""
        far = np.zeros((len(self.records), 2))
        finite = np.isfinite(objects["box"]).all(1)
        np.maximum.at(far, owner[finite], objects["box"][finite, 2:])
        usable = settle_sizes(self.records, far, source, self.problems, self.report_unreadable, self._orientation)
        sized = np.array([record.width > 0 for record in self.records], bool)
        rows = np.flatnonzero(sized[owner])
        keep = np.zeros(len(objects), bool)
        keep[rows] = self._place(objects[rows], owner[rows], lambda i: describe(int(rows[i])))
        self.records = [record for record, here in zip(self.records, usable, strict=True) if here]
        return keep

    def _place(
        self, objects: np.ndarray, owner: np.ndarray, describe: Callable[[int], tuple[str | Path, str, object]]
    ) -> np.ndarray:
        """Check `objects` [N], each of the record with index `owner` [N], and assign them to their records, in order.

        An area that is not above 0 becomes that of the box. Returns bool [N], which were kept; the others are added to
        `problems` with the file, record and value of `describe(i)`.
        """
        sizes = np.array([(record.width, record.height) for record in self.records], np.int64).reshape(-1, 2)[owner]
        boxes, keep = valid_boxes(objects["box"], sizes, describe, self.problems)
        stated, areas = objects["area"], (boxes[:, 2:] - boxes[:, :2]).prod(1)
        rows = np.flatnonzero(keep)[np.argsort(owner[keep], kind="stable")]
        ends = np.searchsorted(owner[rows], np.arange(len(self.records)), side="right").tolist()
        checked = objects[rows]
        checked["box"], checked["area"] = boxes[rows], np.where(stated > 0, stated, areas)[rows]
        for record, first, end in zip(self.records, [0, *ends], ends, strict=False):
            record.objects = checked[first:end]
        return keep

    def report_unreadable(self, path: str, what: str) -> None:
        """Add an unusable image to the problems: fatal unless `allow_missing`."""
        remedy = "It is left out" if self._allow_missing else f"Or set data.allow_missing=true: {_LEFT_OUT}"
        what = what.removeprefix(f"{path}: ")
        self.problems.add(Problem("unreadable image", path, "", what, remedy, fatal=not self._allow_missing))

    def _present(
        self, listed: list[str], source: Path, tried: Sequence[str | Path] = (), advice: str = "data.root"
    ) -> list[bool]:
        """bool per listed image: it belongs to this split, and its file exists. ValueError where a file of this split
        is missing, unless `allow_missing`.

        listed: paths of the images of this split, or of all splits if `splits` is set
        tried:  folders that were searched, for the message; default: those of `listed`
        advice: config keys that name other folders, for the message
        """
        everything = listed
        if self._shares is not None:
            listed = self._shares.choose_files(self.split, listed, self.root)
        self.expected_images = len(listed)
        if not listed:
            raise UserError(f"{source}: lists no image. Name a split that has some")
        for path in listed:
            if not is_file_name(path):
                self.problems.add(
                    Problem("bad file name", source, ascii(path), "no text", "Rename the file in UTF-8", fatal=True)
                )
        listed = [path if is_file_name(path) else "" for path in listed]
        present = which_are_files(listed)
        absent = [path for path, here in zip(listed, present, strict=True) if not here]
        if absent:
            self._report_absent(
                absent, len(listed), source, tried or sorted({os.path.dirname(path) for path in listed})[:3], advice
            )
        there = set(listed) - set(absent)
        return [path in there for path in everything]

    def _report_absent(
        self, absent: list[str], count: int, source: Path, tried: Sequence[str | Path], advice: str
    ) -> None:
        names = f"{len(absent)} of {count} listed images are missing: {', '.join(absent[:3])}"
        names += " ..." if len(absent) > 3 else ""
        remedy = "Copy them there, or set allow_missing=true to leave them out"
        if len(absent) == count:
            places = ", ".join(dict.fromkeys(map(str, tried)))
            remedy = f"They were looked for in {places}. Name the folder that they are in: {advice}"
            if self._allow_missing:
                raise UserError(f"{source}: {names}. {remedy}")
        elif self._allow_missing:
            remedy = "They are left out (data.allow_missing=true); scores say how many"
        fatal = not self._allow_missing
        self.problems.add(Problem("missing images", source, "", names, remedy, fatal))


def split_names(split: str) -> tuple[str, ...]:
    """Names of `split` on disk, the likeliest first."""
    return split, f"{split}2017", *_SPLITS.get(split, ())


def read_record(record: Record) -> np.ndarray:
    """The image of a record, uint8 [H, W, 3] RGB. `UnreadableImage` where it cannot be decoded or differs in size."""
    image = read_image(record.path, record.upright)
    found, labelled = image.shape[1::-1], (record.width, record.height)
    if found != labelled:
        raise UnreadableImage(f"{record.path}: {other_size(found, labelled)}")
    return image
