"""Mosaic and mixup augmentation: training samples composed of several images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Labelled = tuple[np.ndarray, np.ndarray, np.ndarray]  # uint8 [H, W, 3]; boxes [N, 4] xyxy in its pixels; labels [N]


@dataclass(frozen=True)
class Layout:
    """Layout of a mosaic: images are scaled by `gain` relative to a single one, and meet at `point` (x, y), relative to
    the canvas."""

    gain: float
    point: np.ndarray


def draw_layout(scale: float, translate: float, rng: np.random.Generator) -> Layout:
    """Random layout of a mosaic (Bochkovskiy et al., "YOLOv4", 2020) on a canvas of twice the size: the images meet
    anywhere in its middle half, the canvas is scaled about its centre by 1 - scale to 1 + scale, shifted by up to
    `translate` of the sample's size, and its middle is cut out."""
    gain = 1 + scale * rng.uniform(-1, 1)
    return Layout(gain, 0.5 + gain * rng.uniform(-0.5, 0.5, 2) + translate * rng.uniform(-1, 1, 2))


def mosaic(
    images: Sequence[Labelled], size: tuple[int, int], layout: Layout, min_visibility: float, fill: int
) -> Labelled:
    """Mosaic of four images on a canvas of `size` (height, width).

    Every image is resized once, directly to its place in the middle of the canvas of twice the size, which is not
    built. Differs from the paper in that images are not cropped at the border of that canvas, so there is less padding.

    Boxes are clipped to the sample; those with less than `min_visibility` of their area, or none, left are dropped.
    """
    import cv2

    height, width = size
    sides, gain = np.array([width, height]), layout.gain
    x, y = np.rint(sides * layout.point).astype(int)

    canvas = np.full((height, width, 3), fill, np.uint8)
    all_boxes, all_labels = [], []
    for k, (image, boxes, labels) in enumerate(images):
        h, w = image.shape[:2]
        factor = gain * min(height / h, width / w)
        new_h, new_w = max(1, round(h * factor)), max(1, round(w * factor))
        top, left = y - new_h * (k < 2), x - new_w * (k % 2 == 0)  # 0 and 1 lie above the point, 0 and 2 left of it
        y1, y2 = np.clip([top, top + new_h], 0, height)
        x1, x2 = np.clip([left, left + new_w], 0, width)
        if y1 < y2 and x1 < x2:
            # Areas are averaged when an image shrinks, so fine texture does not turn into noise.
            method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
            resized = cv2.resize(image, (new_w, new_h), interpolation=method)
            canvas[y1:y2, x1:x2] = resized[y1 - top : y2 - top, x1 - left : x2 - left]
        all_boxes.append(boxes.reshape(-1, 4) * np.tile([new_w / w, new_h / h], 2) + np.tile([left, top], 2))
        all_labels.append(labels)

    boxes, labels = np.concatenate(all_boxes), np.concatenate(all_labels)
    inside = np.clip(boxes, 0, np.tile(sides, 2))
    area, visible = ((b[:, 2:] - b[:, :2]).prod(1) for b in (boxes, inside))
    keep = (visible > 0) & (visible >= min_visibility * area)
    return canvas, inside[keep].astype(np.float32), labels[keep].astype(np.int64)


def mirror(one: Labelled, left_right: bool, top_bottom: bool) -> Labelled:
    image, boxes, labels = one
    height, width = image.shape[:2]
    boxes = boxes.copy()
    if left_right:
        image, boxes[:, [0, 2]] = image[:, ::-1], width - boxes[:, [2, 0]]
    if top_bottom:
        image, boxes[:, [1, 3]] = image[::-1], height - boxes[:, [3, 1]]
    return np.ascontiguousarray(image), boxes, labels


def mixup(one: Labelled, other: Labelled, share: float) -> Labelled:
    """Mixup (Zhang et al., 2018): share * one + (1 - share) * other, of one size, with all boxes at full weight.

    `share` comes from Beta(32, 32), near one half, as usual in detection.
    """
    import cv2

    image = cv2.addWeighted(one[0], share, other[0], 1 - share, 0.0)
    return image, np.concatenate([one[1], other[1]]), np.concatenate([one[2], other[2]])
