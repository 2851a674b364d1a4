"""Letterbox input of images: resize with the aspect ratio kept, and gray padding (`ImageInput`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from registry import UserError

from ..sample import Placement
from ..type_checks import height_width

GRAY = 114  # of the border, as in YOLO
STRIDE = 32  # pixels: the largest stride of the detectors; sides of rectangular inputs are multiples of it


class ImageInput:
    """image uint8 [H, W, 3] RGB -> (x uint8 [3, *size], `Placement` of the image in x).

    The image is scaled to fit into `size`, one number or (height, width), with its aspect ratio kept, and centred on
    gray. The network takes x.float() * scale.

    rectangular: pad only to the next multiples of `STRIDE`, so inputs differ in shape
    """

    kind = "image"
    channels, scale, num_steps = 3, 1 / 255, None

    def __init__(self, size: Any, rectangular: bool = False):
        if not isinstance(rectangular, bool):
            raise UserError(f"rectangular = {rectangular!r:.200}: give true or false")
        self.size, self.rectangular = height_width(size), rectangular

    def __call__(self, image: np.ndarray) -> tuple[Tensor, Placement]:
        return channels_first(self.letterbox(image)), self.placement(image.shape[:2])

    def to_plain(self) -> dict[str, Any]:
        return {"kind": self.kind, "size": list(self.size), "rectangular": self.rectangular}

    def letterbox(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> [*shape, 3], a new array."""
        import cv2

        height, width = self._fitted(image.shape[:2])
        place, (to_height, to_width) = self.placement(image.shape[:2]), self.shape(image.shape[:2])
        shrinks = self.size[0] < image.shape[0] or self.size[1] < image.shape[1]
        if (height, width) != image.shape[:2]:
            # Areas are averaged when an image shrinks, so fine texture does not turn into noise.
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            image = cv2.resize(image, (width, height), interpolation=method)
        x = np.full((to_height, to_width, 3), GRAY, np.uint8)
        top, left = int(place.top), int(place.left)
        x[top : top + height, left : left + width] = image
        return x

    def placement(self, original: tuple[int, ...]) -> Placement:
        """`Placement` of an image of size `original` (height, width). Sides are rounded to whole pixels, so the two
        scales may differ slightly."""
        height, width = self._fitted(original)
        to_height, to_width = self.shape(original)
        left, top = (to_width - width) // 2, (to_height - height) // 2
        return Placement(width / original[1], height / original[0], left, top)

    def shape(self, original: tuple[int, ...]) -> tuple[int, int]:
        """(height, width) of `x` for an image of size `original` (height, width)."""
        if not self.rectangular:
            return self.size
        height, width = (-(-side // STRIDE) * STRIDE for side in self._fitted(original))
        return height, width

    def _fitted(self, original: tuple[int, ...]) -> tuple[int, int]:
        scale = min(self.size[0] / original[0], self.size[1] / original[1])
        return max(1, round(original[0] * scale)), max(1, round(original[1] * scale))


def channels_first(image: np.ndarray) -> Tensor:
    """[H, W, 3] -> contiguous tensor [3, H, W]."""
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()
