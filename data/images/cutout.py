"""Cutout augmentation: random gray rectangles in a training sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .mosaic import Labelled


@dataclass(frozen=True)
class Holes:
    """Rectangles, as shares of the image's sides: centres [n, 2] of x, y, and half of their sides [n, 2]."""

    centres: np.ndarray
    halves: np.ndarray


def draw_holes(count: int, size: float, rng: np.random.Generator) -> Holes:
    """Random holes: sides uniform in 0 .. `size` relative to the image, centres uniform in the image."""
    return Holes(rng.uniform(0, 1, (count, 2)), rng.uniform(0, size / 2, (count, 2)))


def cutout(sample: Labelled, holes: Holes, max_hidden: float, fill: int) -> Labelled:
    """The `sample` with its `holes` filled with `fill`.

    DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017. As there, the
    centre of a hole is uniform in the image, so holes may extend beyond it. Differs in that there are several holes of
    random sizes, and, for detection, boxes with more than the share `max_hidden` under holes are dropped.
    """
    image, boxes, labels = sample
    height, width = image.shape[:2]
    sides = np.array([width, height])
    centres, halves = holes.centres * sides, holes.halves * sides
    corners = np.rint(np.clip(np.hstack([centres - halves, centres + halves]), 0, np.tile(sides, 2))).astype(int)

    hidden = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in corners:
        hidden[y1:y2, x1:x2] = True
    image = np.where(hidden[..., None], np.uint8(fill), image)
    keep = hidden_share(boxes, hidden) <= max_hidden + 1e-6  # rounding
    return image, boxes[keep], labels[keep]


def hidden_share(boxes: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Share [N] of the area of each box [N, 4] xyxy where the mask `hidden` [H, W] is true; pixels on the border of a
    box count by the part inside."""
    x1, y1, x2, y2 = boxes.astype(np.float64).T[:, :, None]
    columns, rows = np.arange(hidden.shape[1]), np.arange(hidden.shape[0])
    across = np.clip(np.minimum(x2, columns + 1) - np.maximum(x1, columns), 0, None)  # [N, W]
    down = np.clip(np.minimum(y2, rows + 1) - np.maximum(y1, rows), 0, None)  # [N, H]
    return ((down @ hidden) * across).sum(1) / ((x2 - x1) * (y2 - y1))[:, 0]
