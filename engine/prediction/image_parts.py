"""Parts of images: still ones in files (`Stills`), a video file or a camera (`Video`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from analysis.draw import draw_boxes
from data.images.image_file import UnreadableImage, read_image
from data.images.input import ImageInput, channels_first
from data.images.video import VideoReader
from data.sample import Sample
from registry import UserError

from .frame import Found, Frame

log = logging.getLogger(__name__)


class Stills:
    """Image files. upright: turned by their EXIF orientation."""

    rate, unit = None, "image"

    def __init__(self, name: str, paths: list[Path], base: Path, input: ImageInput, upright: bool):
        self.name, self.total = name, len(paths)
        self._paths, self._base, self._input, self._upright = paths, base, input, upright

    def frames(self) -> Iterator[Frame | UserError]:
        for path in self._paths:
            try:
                image = read_image(path, self._upright)
            except UnreadableImage as error:
                yield error
                continue
            yield image_frame(image, self._input, path.relative_to(self._base).as_posix())

    def draw(self, frame: Frame, found: Found, class_names: list[str], score: float) -> Tensor:
        return drawn(frame, found, class_names)


class Video:
    """source: a video file, or the index of a camera."""

    unit = "frame"

    def __init__(self, name: str, source: Path | int, input: ImageInput):
        self._reader, self._input = VideoReader(source), input
        self.name, self.rate, self.total = name, self._reader.rate, self._reader.count

    def frames(self) -> Iterator[Frame | UserError]:
        number = 0
        try:
            for number, (image, t_us) in enumerate(self._reader, 1):
                yield image_frame(image, self._input, self.name, frame=number, t_us=t_us)
        finally:
            self._reader.close()
        if not number:
            raise UserError(f"{self.name}: no frame can be decoded. Copy it again, or convert it to .mp4")
        if self.total is not None and number < self.total:
            log.warning("%s: ends after %d of the %d frames that it announces", self.name, number, self.total)

    def draw(self, frame: Frame, found: Found, class_names: list[str], score: float) -> Tensor:
        return drawn(frame, found, class_names)


def image_frame(image: np.ndarray, input: ImageInput, name: str, **about: int) -> Frame:
    """image: uint8 [H, W, 3] RGB."""
    x, placement = input(image)
    return Frame(unlabelled(x, placement, image.shape[:2]), name, about, channels_first(image))


def unlabelled(x: Tensor, placement, original_size: tuple[int, int], start: bool = True) -> Sample:
    """A sample without boxes."""
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    return Sample(x, *nothing, 0, original_size, placement, start=start)


def drawn(frame: Frame, found: Found, class_names: list[str]) -> Tensor:
    assert frame.image is not None
    return draw_boxes(frame.image, found.boxes, found.labels, class_names, found.scores, tracks=found.tracks)
