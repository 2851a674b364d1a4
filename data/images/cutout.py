"""Cutout: gray holes in a training sample, so that no single part of an object decides."""

from __future__ import annotations

import numpy as np

from .mosaic import Picture


def cutout(
    picture: Picture, holes: int, size: float, max_hidden: float, fill: int, rng: np.random.Generator
) -> Picture:
    """`holes` rectangles filled with `fill`, each side drawn evenly from 0 to `size` of the picture's own.

    DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017. As there a hole's
    centre lies anywhere in the picture, so that it may stick out. Differs in that there are several, of drawn sizes,
    and in what only detection has: a box of which more than the share `max_hidden` lies under holes is dropped.
    """
    image, boxes, labels = picture
    height, width = image.shape[:2]
    sides = np.array([width, height])
    centres = rng.uniform(0, 1, (holes, 2)) * sides
    halves = rng.uniform(0, size / 2, (holes, 2)) * sides
    corners = np.rint(np.clip(np.hstack([centres - halves, centres + halves]), 0, np.tile(sides, 2))).astype(int)

    hidden = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in corners:
        hidden[y1:y2, x1:x2] = True
    image = np.where(hidden[..., None], np.uint8(fill), image)
    keep = hidden_share(boxes, hidden) <= max_hidden + 1e-6  # rounding
    return image, boxes[keep], labels[keep]


def hidden_share(boxes: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Share [N] of the area of each box [N, 4] xyxy in which the mask `hidden` [H, W] is true; pixels that a box cuts
    count by the part within it."""
    x1, y1, x2, y2 = boxes.astype(np.float64).T[:, :, None]
    columns, rows = np.arange(hidden.shape[1]), np.arange(hidden.shape[0])
    across = np.clip(np.minimum(x2, columns + 1) - np.maximum(x1, columns), 0, None)  # [N, W]
    down = np.clip(np.minimum(y2, rows + 1) - np.maximum(y1, rows), 0, None)  # [N, H]
    return ((down @ hidden) * across).sum(1) / ((x2 - x1) * (y2 - y1))[:, 0]
