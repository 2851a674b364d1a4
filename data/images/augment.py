"""Pictures and their boxes made one size: letterbox; at training mirror, scale, shift, colours, mosaic, mixup, cutout.

The geometry is albumentations' (imported in this file only), the colours are OpenCV's, which comes with it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from registry import reject_unknown

from ..sample import Placement
from ..written import is_number, is_whole
from .cutout import cutout as cut_holes
from .mosaic import Picture, mirror, mixup, mosaic

GRAY = 114  # of the border, as in YOLO
STRIDE = 32  # pixels: the coarsest grid of the detectors, whose multiples the sides of rectangular samples are


class ImageAugment:
    """Fit a picture into `size` (height, width) with its shape kept, centred on gray; then change it at random.

    rectangular:    no more gray than fills the fitted picture up to multiples of `STRIDE`; without mosaic and mixup
    hflip, vflip:   probability of a left-right, top-bottom mirror
    scale:          the picture is scaled about its centre by 1 - scale to 1 + scale
    translate:      largest shift as a share of the canvas, each axis drawn evenly
    hsv:            largest change of hue, saturation and value, as a share: each is multiplied by 1 - h to 1 + h
    min_visibility: a box that keeps less of its area than this within the canvas is dropped
    mosaic:         probability of a sample of four pictures, of which three are drawn; changed as a single one is
    mixup:          probability of blending a sample with another one
    plain_epochs:   the last so many epochs of a training have neither mosaic nor mixup
    cutout:         probability that the finished sample gets gray holes: `cutout_holes` of them, their sides up to
                    `cutout_size` of the canvas's; a box that they cover by more than `max_hidden` is dropped
    """

    def __init__(
        self,
        size: tuple[int, int],
        rectangular: bool = False,
        *,
        hflip: float = 0.0,
        vflip: float = 0.0,
        scale: float = 0.0,
        translate: float = 0.0,
        hsv: Sequence[float] = (0.0, 0.0, 0.0),
        min_visibility: float = 0.15,
        mosaic: float = 0.0,
        mixup: float = 0.0,
        plain_epochs: int = 0,
        cutout: float = 0.0,
        cutout_holes: int = 8,
        cutout_size: float = 0.25,
        max_hidden: float = 0.6,
    ):
        if not isinstance(hsv, Sequence) or len(hsv) != 3:
            raise ValueError(f"image augmentation hsv = {hsv}: give three numbers: hue, saturation, value")
        options = {"hflip": hflip, "vflip": vflip, "scale": scale, "translate": translate, "hue": hsv[0]}
        options |= {"saturation": hsv[1], "value": hsv[2], "min_visibility": min_visibility}
        options |= {"mosaic": mosaic, "mixup": mixup}
        options |= {"cutout": cutout, "cutout_size": cutout_size, "max_hidden": max_hidden}
        for name, number in options.items():
            if not is_number(number) or not 0 <= number <= 1:
                raise ValueError(f"image augmentation {name} = {number!r}: give a number from 0 to 1")
        if scale == 1:
            raise ValueError(f"image augmentation scale = {scale}: give a number below 1, which would leave no picture")
        for name, number, least in (("plain_epochs", plain_epochs, 0), ("cutout_holes", cutout_holes, 1)):
            if not is_whole(number) or number < least:
                raise ValueError(f"image augmentation {name} = {number}: give {least} or more, a whole number")

        min_visibility = min(min_visibility, 0.999)  # 1 keeps what is whole but for rounding
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it asks a server for news otherwise
        import albumentations as A
        import cv2

        cv2.setNumThreads(0)  # the loader's processes are the parallelism; OpenCV's threads would fight over the cores
        self.size, self._rectangular = (int(size[0]), int(size[1])), rectangular
        self._hsv = np.asarray(hsv, np.float64)
        self._mirrors, self._moves = (hflip, vflip), (scale, translate, min_visibility)
        self._mosaic, self._mixup, self._plain_epochs = mosaic, mixup, plain_epochs
        self._cutout, self._holes = cutout, (cutout_holes, cutout_size, max_hidden)
        sides: dict[str, int | None] = dict(zip(("min_height", "min_width"), self.size, strict=True))
        if rectangular:
            sides = {"min_height": None, "min_width": None, "pad_height_divisor": STRIDE, "pad_width_divisor": STRIDE}
        # Areas are averaged when a picture shrinks, so fine texture does not turn into noise.
        transforms = [
            A.LongestMaxSize(max_size_hw=self.size, interpolation=cv2.INTER_LINEAR, area_for_downscale="image"),
            A.PadIfNeeded(**sides, border_mode=cv2.BORDER_CONSTANT, fill=GRAY),
        ]
        if hflip or vflip:
            transforms += [A.HorizontalFlip(p=hflip), A.VerticalFlip(p=vflip)]
        if scale or translate:
            shift = (-translate, translate)
            transforms += [
                A.Affine(
                    scale=(1 - scale, 1 + scale),
                    translate_percent={"x": shift, "y": shift},
                    keep_ratio=True,
                    border_mode=cv2.BORDER_CONSTANT,
                    fill=GRAY,
                    p=1.0,
                )
            ]
        # `clip` alone still raises for a box without width, and without `clip` one stray coordinate ends the worker.
        boxes = A.BboxParams(
            "pascal_voc", label_fields=["labels"], clip=True, filter_invalid_bboxes=True, min_visibility=min_visibility
        )
        self._compose = A.Compose(transforms, bbox_params=boxes)

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, Placement]:
        """image uint8 [H, W, 3] RGB, boxes [N, 4] xyxy pixels, labels [N] ->
        (image uint8 [*size, 3], boxes float32 [M, 4], labels int64 [M], where the letterbox put the picture).

        The placement describes the letterbox alone: it maps boxes back exactly when no augmentation is set.
        """
        gains = 1 + rng.uniform(-1, 1, 3) * self._hsv
        # Each its own seed: the one that `Compose.set_random_seed` gives to all would tie one mirror to the other.
        for transform in self._compose.transforms[2:]:
            transform.set_random_seed(int(rng.integers(2**31)))
        found = self._compose(
            image=image,
            bboxes=np.asarray(boxes, np.float32).reshape(-1, 4),
            labels=np.asarray(labels, np.int64),
        )
        return (
            np.ascontiguousarray(_hsv_gain(found["image"], gains)),
            np.asarray(found["bboxes"], np.float32).reshape(-1, 4),
            np.asarray(found["labels"], np.int64).reshape(-1),
            letterbox_placement(image.shape[:2], self.size, self._rectangular),
        )

    def sample(
        self,
        read: Callable[[int], Picture],
        index: int,
        count: int,
        rng: np.random.Generator,
        epochs_left: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, Placement]:
        """The training sample of picture `index` of `count`, as `__call__` returns it: alone, or with others.

        read: index -> (image, boxes, labels); epochs_left: of the training, this one included, None outside one.
        """
        several = epochs_left is None or epochs_left > self._plain_epochs

        def one(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Placement]:
            first = read(index)
            if not (several and self._mosaic and rng.random() < self._mosaic):
                return self(*first, rng)
            four = [first, *(read(int(k)) for k in rng.integers(count, size=3))]
            made = mosaic(four, self.size, *self._moves, GRAY, rng)
            image, boxes, labels = mirror(made, *(rng.random(2) < self._mirrors))
            image = _hsv_gain(image, 1 + rng.uniform(-1, 1, 3) * self._hsv)
            return image, boxes, labels, letterbox_placement(first[0].shape[:2], self.size)

        image, boxes, labels, placement = one(index)
        if several and self._mixup and rng.random() < self._mixup:
            image, boxes, labels = mixup((image, boxes, labels), one(int(rng.integers(count)))[:3], rng)
        if self._cutout and rng.random() < self._cutout:
            image, boxes, labels = cut_holes((image, boxes, labels), *self._holes, GRAY, rng)
        return image, boxes, labels, placement


def image_augment(size: tuple[int, int], options: dict[str, Any] | None, rectangular: bool = False) -> ImageAugment:
    """`ImageAugment(size, rectangular, **options)`; ValueError for an option it does not have, naming the nearest."""
    parameters = inspect.signature(ImageAugment).parameters.values()
    reject_unknown(options or {}, [p.name for p in parameters if p.kind == p.KEYWORD_ONLY], "image augmentation")
    return ImageAugment(size, rectangular, **(options or {}))


def letterbox_placement(original: tuple[int, int], size: tuple[int, int], rectangular: bool = False) -> Placement:
    """Where the letterbox puts a picture of `original` (height, width) in `size`, or in a rectangle of its own. Sides
    are rounded to whole pixels, so the two scales may differ by a hair."""
    height, width = original
    new_height, new_width = _fitted(original, size)
    to_height, to_width = letterbox_shape(original, size) if rectangular else size
    left, top = (to_width - new_width) // 2, (to_height - new_height) // 2
    return Placement(new_width / width, new_height / height, left, top)


def letterbox_shape(original: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the rectangular sample of a picture of `original`: multiples of `STRIDE`."""
    height, width = (-(-side // STRIDE) * STRIDE for side in _fitted(original, size))
    return height, width


def _fitted(original: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    scale = min(size[0] / original[0], size[1] / original[1])
    return max(1, round(original[0] * scale)), max(1, round(original[1] * scale))


def _hsv_gain(image: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Multiply hue (turning round at 180, OpenCV's full circle), saturation and value, through a look-up table."""
    import cv2

    if (gains == 1).all():  # the way to HSV and back loses a little
        return image

    table = np.arange(256)[:, None] * gains
    table[:, 0] %= 180
    table = np.clip(table, 0, 255).astype(np.uint8)[None]
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table), cv2.COLOR_HSV2RGB)
