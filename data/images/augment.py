"""Augmentation of images and boxes (`ImageAugment`): flips, scale, translation, HSV, mosaic, mixup, cutout.

Geometry by albumentations (imported in this file only), colours by OpenCV, which comes with it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from registry import UserError, reject_unknown

from ..sample import Placement
from ..type_checks import is_number, is_whole
from .cutout import Holes, cutout, draw_holes
from .input import GRAY, ImageInput
from .mosaic import Labelled, Layout, draw_layout, mirror, mixup, mosaic


@dataclass(frozen=True)
class Canvas:
    """Random parameters of one canvas: a single image, or a mosaic of four.

    indices: of the images
    gains:   factors of hue, saturation and value
    seeds:   one for each transform of a single image
    layout, mirrors: of a mosaic; (left-right, top-bottom)
    """

    indices: tuple[int, ...]
    gains: np.ndarray
    seeds: tuple[int, ...] = ()
    layout: Layout | None = None
    mirrors: tuple[bool, ...] = (False, False)


@dataclass(frozen=True)
class Change:
    """Random parameters of a sample: one canvas, or two for mixup with weight `share` of the first; cutout holes."""

    canvases: tuple[Canvas, ...]
    share: float = 1.0
    holes: Holes | None = None

    @property
    def indices(self) -> list[int]:
        """Indices of the images in the sample, the requested one first."""
        return [index for canvas in self.canvases for index in canvas.indices]


class ImageAugment:
    """Augmentation in two steps: `draw` the random parameters, which name the images needed, then apply them to these.
    The canvas is that of `input`.

    hflip, vflip:   probability of a left-right, top-bottom flip
    scale:          the image is scaled about its centre by 1 - scale to 1 + scale
    translate:      largest shift as a share of the canvas, uniform per axis
    hsv:            largest relative change h of hue, saturation and value: factors uniform in 1 - h .. 1 + h
    min_visibility: boxes with less than this share of their area within the canvas are dropped
    mosaic:         probability of a mosaic of the image and three random ones, augmented like a single image
    mixup:          probability of blending the sample with another one
    plain_epochs:   number of last epochs of a training without mosaic and mixup
    cutout:         probability of `cutout_holes` gray holes in the finished sample, with sides up to `cutout_size` of
                    the canvas; boxes covered by more than `max_hidden` are dropped
    """

    def __init__(
        self,
        input: ImageInput,
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
            raise UserError(f"image augmentation hsv = {hsv}: give three numbers: hue, saturation, value")
        options = {"hflip": hflip, "vflip": vflip, "scale": scale, "translate": translate, "hue": hsv[0]}
        options |= {"saturation": hsv[1], "value": hsv[2], "min_visibility": min_visibility}
        options |= {"mosaic": mosaic, "mixup": mixup}
        options |= {"cutout": cutout, "cutout_size": cutout_size, "max_hidden": max_hidden}
        for name, number in options.items():
            if not is_number(number) or not 0 <= number <= 1:
                raise UserError(f"image augmentation {name} = {number!r}: give a number from 0 to 1")
        if scale == 1:
            raise UserError(f"image augmentation scale = {scale}: give a number below 1, which would leave no image")
        for name, number, least in (("plain_epochs", plain_epochs, 0), ("cutout_holes", cutout_holes, 1)):
            if not is_whole(number) or number < least:
                raise UserError(f"image augmentation {name} = {number}: give {least} or more, a whole number")

        self.input = input
        self._hsv = np.asarray(hsv, np.float64)
        self._mirrors, self._moves = (hflip, vflip), (scale, translate)
        self._min_visibility = min(min_visibility, 0.999)  # at 1, rounding would drop whole boxes
        self._mosaic, self._mixup, self._plain_epochs = mosaic, mixup, plain_epochs
        self._cutout, self._holes, self._max_hidden = cutout, (cutout_holes, cutout_size), max_hidden
        self._compose = _transforms(self._mirrors, scale, translate, self._min_visibility)

    def draw(self, index: int, count: int, rng: np.random.Generator, epochs_left: int | None = None) -> Change:
        """Random parameters of a sample for image `index` of `count`.

        epochs_left: epochs left in the training, including this one; None outside a training
        """
        several = epochs_left is None or epochs_left > self._plain_epochs
        canvases, share, holes = [self._draw_canvas(index, count, rng, several)], 1.0, None
        if several and self._mixup and rng.random() < self._mixup:
            canvases.append(self._draw_canvas(int(rng.integers(count)), count, rng, several))
            share = rng.beta(32, 32)
        if self._cutout and rng.random() < self._cutout:
            holes = draw_holes(*self._holes, rng)
        return Change(tuple(canvases), share, holes)

    def _draw_canvas(self, index: int, count: int, rng: np.random.Generator, several: bool) -> Canvas:
        if several and self._mosaic and rng.random() < self._mosaic:
            four = index, *rng.integers(count, size=3).tolist()
            layout = draw_layout(*self._moves, rng)
            mirrors = tuple((rng.random(2) < self._mirrors).tolist())
            return Canvas(four, 1 + rng.uniform(-1, 1, 3) * self._hsv, layout=layout, mirrors=mirrors)
        gains = 1 + rng.uniform(-1, 1, 3) * self._hsv
        # One seed per transform: `Compose.set_random_seed` gives all the same, which would correlate the flips.
        seeds = tuple(int(rng.integers(2**31)) for _ in self._compose.transforms[1:])
        return Canvas((index,), gains, seeds)

    def __call__(
        self, change: Change, images: Sequence[Labelled]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, Placement]:
        """The images of `change.indices` (uint8 [H, W, 3] RGB, boxes [N, 4] xyxy pixels, labels [N]) ->
        (image uint8 [H', W', 3] of the canvas, boxes float32 [M, 4], labels int64 [M], placement).

        The placement is that of the first image in the input without augmentation.
        """
        left = iter(images)
        made = [self._canvas(canvas, [next(left) for _ in canvas.indices]) for canvas in change.canvases]
        sample = made[0] if len(made) == 1 else mixup(made[0], made[1], change.share)
        if change.holes is not None:
            sample = cutout(sample, change.holes, self._max_hidden, GRAY)
        return *sample, self.input.placement(images[0][0].shape[:2])

    def _canvas(self, canvas: Canvas, images: Sequence[Labelled]) -> Labelled:
        if canvas.layout is None:
            image, boxes, labels = self._single(canvas.seeds, *images[0])
        else:
            made = mosaic(images, self.input.size, canvas.layout, self._min_visibility, GRAY)
            image, boxes, labels = mirror(made, *canvas.mirrors)
        return np.ascontiguousarray(_hsv_gain(image, canvas.gains)), boxes, labels

    def _single(self, seeds: Sequence[int], image: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> Labelled:
        for transform, seed in zip(self._compose.transforms[1:], seeds, strict=True):
            transform.set_random_seed(seed)
        canvas, place = self.input.letterbox(image), self.input.placement(image.shape[:2])
        sides = np.tile(canvas.shape[1::-1], 2)
        found = self._compose(
            image=canvas,
            bboxes=_placed(boxes, image.shape[:2], place) / sides,  # float64, where pixels would be rounded to float32
            labels=np.asarray(labels, np.int64),
        )
        return (
            found["image"],
            (np.asarray(found["bboxes"]).reshape(-1, 4) * sides).astype(np.float32),
            np.asarray(found["labels"], np.int64).reshape(-1),
        )


def image_augment(input: ImageInput, options: dict[str, Any] | None) -> ImageAugment:
    """`ImageAugment(input, **options)`; ValueError for an option it does not have, naming the nearest."""
    parameters = inspect.signature(ImageAugment).parameters.values()
    reject_unknown(options or {}, [p.name for p in parameters if p.kind == p.KEYWORD_ONLY], "image augmentation")
    return ImageAugment(input, **(options or {}))


def _transforms(mirrors: tuple[float, float], scale: float, translate: float, min_visibility: float) -> Any:
    """Albumentations pipeline for a single image on its canvas; boxes are relative to its sides."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would otherwise query a server for updates
    import albumentations as A
    import cv2

    cv2.setNumThreads(0)  # workers already run in parallel; OpenCV threads would oversubscribe the cores
    transforms: list[Any] = [A.NoOp()]  # without any, albumentations warns
    if any(mirrors):
        transforms += [A.HorizontalFlip(p=mirrors[0]), A.VerticalFlip(p=mirrors[1])]
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
    # `clip` alone still raises for a box of zero width; without `clip` any coordinate outside raises.
    boxes = A.BboxParams(
        "albumentations", label_fields=["labels"], clip=True, filter_invalid_bboxes=True, min_visibility=min_visibility
    )
    return A.Compose(transforms, bbox_params=boxes)


def _placed(boxes: np.ndarray, original: tuple[int, ...], place: Placement) -> np.ndarray:
    """Boxes [N, 4] in pixels of an image of `original` (height, width), clipped to it -> pixels of the canvas."""
    sides = np.tile(original[::-1], 2)
    shares = np.clip((np.asarray(boxes, np.float32).reshape(-1, 4) / sides).astype(np.float32), 0, 1)
    fitted = np.rint(sides * np.tile([place.scale_x, place.scale_y], 2))
    return shares.astype(np.float64) * fitted + np.tile([place.left, place.top], 2)


def _hsv_gain(image: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Multiply hue (modulo 180, as in OpenCV), saturation and value by `gains`, through a look-up table."""
    import cv2

    if (gains == 1).all():  # the conversion to HSV and back is lossy
        return image

    table = np.arange(256)[:, None] * gains
    table[:, 0] %= 180
    table = np.clip(table, 0, 255).astype(np.uint8)[None]
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table), cv2.COLOR_HSV2RGB)
