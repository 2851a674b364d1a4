"""Augmentation of event frames and their boxes: mirror, shift, swap of polarities."""

from __future__ import annotations

import numpy as np


class EventAugment:
    """Random changes that keep event counts whole numbers.

    hflip:       probability of a left-right mirror
    translate:   largest shift as a share of the frame, each axis drawn evenly, in whole pixels; what comes in is empty
    polarity:    probability of swapping OFF and ON, the same street at inverted contrast
    min_visible: a box that keeps less of its area than this within the frame is dropped
    """

    def __init__(self, hflip: float = 0.0, translate: float = 0.0, polarity: float = 0.0, min_visible: float = 0.5):
        options = {"hflip": hflip, "translate": translate, "polarity": polarity, "min_visible": min_visible}
        for name, value in options.items():
            if not 0 <= value <= 1:
                raise ValueError(f"event augmentation {name} = {value}: give a number from 0 to 1")
        self.hflip, self.translate, self.polarity, self.min_visible = options.values()

    def __call__(
        self, frames: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator, empty: int = 0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """frames [T, C, H, W], boxes float [N, 4] xyxy pixels, labels [N]; the same again, the inputs unchanged.

        empty: value of a pixel without events. A swap of polarities needs C = 2.
        """
        height, width = frames.shape[-2:]
        # All numbers are drawn whatever the options are, so switching one option leaves the others' choices alone.
        flip, swap, across, down = rng.random(4)
        dx = round((2 * across - 1) * self.translate * width)
        dy = round((2 * down - 1) * self.translate * height)
        boxes = boxes.copy()
        if flip < self.hflip:
            frames = frames[..., ::-1]
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        if swap < self.polarity:
            frames = frames[:, ::-1]
        if dx or dy:
            frames = _shift(frames, dx, dy, empty)
            boxes += np.array([dx, dy, dx, dy], boxes.dtype)
            before = _area(boxes)
            boxes = np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))
            after = _area(boxes)
            keep = (after >= self.min_visible * before) & (after > 0)
            boxes, labels = boxes[keep], labels[keep]
        return np.ascontiguousarray(frames), boxes, labels


def _shift(frames: np.ndarray, dx: int, dy: int, empty: int) -> np.ndarray:
    height, width = frames.shape[-2:]
    out = np.full_like(frames, empty)
    if abs(dx) < width and abs(dy) < height:
        to_x, from_x = slice(max(dx, 0), width + min(dx, 0)), slice(max(-dx, 0), width - max(dx, 0))
        to_y, from_y = slice(max(dy, 0), height + min(dy, 0)), slice(max(-dy, 0), height - max(dy, 0))
        out[..., to_y, to_x] = frames[..., from_y, from_x]
    return out


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
