"""Augmentation of event windows and boxes (`EventAugment`): flip, shift, zoom, polarity swap, dropped events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from registry import UserError

from ..recordings import Events
from ..type_checks import is_number


class EventAugment:
    """Random augmentation that keeps event counts integers.

    hflip:       probability of a left-right flip
    translate:   largest shift as a share of the frame, uniform per axis, in whole pixels; padding is empty
    zoom:        scale about the centre, log-uniform in 1 / (1 + zoom) .. 1 + zoom; nearest neighbour, so that counts
                 stay integers (as in RVT)
    polarity:    probability of swapping OFF and ON, which inverts the contrast
    drop:        largest share of randomly dropped events; the share is uniform in 0 .. drop
    drop_time:   largest share of the window in which all events are dropped, one interval
    drop_area:   largest share of width and of height of a rectangle in which all events are dropped
    min_visible: boxes with less than this share of their area within the frame are dropped

    The three drops are those of Gu et al., "EventDrop", 2021, which applies one of them per sample; here all apply.
    """

    def __init__(
        self,
        hflip: float = 0.0,
        translate: float = 0.0,
        zoom: float = 0.0,
        polarity: float = 0.0,
        drop: float = 0.0,
        drop_time: float = 0.0,
        drop_area: float = 0.0,
        min_visible: float = 0.5,
    ):
        shares = {"hflip": hflip, "translate": translate, "polarity": polarity, "drop": drop}
        shares |= {"drop_time": drop_time, "drop_area": drop_area, "min_visible": min_visible}
        for name, value, most in [*((name, share, 1) for name, share in shares.items()), ("zoom", zoom, 3)]:
            if not is_number(value) or not 0 <= value <= most:
                raise UserError(f"event augmentation {name} = {value!r}: give a number from 0 to {most}")
        self.hflip, self.translate, self.zoom, self.polarity = hflip, translate, zoom, polarity
        self.drop, self.drop_time, self.drop_area, self.min_visible = drop, drop_time, drop_area, min_visible

    def draw(self, rng: np.random.Generator) -> Change:
        """Random parameters, applied to the events and then to the frames of a window or of a whole recording."""
        # All numbers are drawn whatever the options are, so that changing one option does not change the others.
        flip, swap, across, down = rng.random(4).tolist()
        zoom, drop, *stretch = rng.random(8).tolist()
        seed = int(rng.integers(2**63))
        return Change(
            flip=flip < self.hflip,
            swap=swap < self.polarity,
            shift=((2 * across - 1) * self.translate, (2 * down - 1) * self.translate),
            zoom=(1 + self.zoom) ** (2 * zoom - 1),
            drop=drop * self.drop,
            lost_time=_interval(stretch[0] * self.drop_time, stretch[1]),
            lost_x=_interval(stretch[2] * self.drop_area, stretch[3]),
            lost_y=_interval(stretch[4] * self.drop_area, stretch[5]),
            min_visible=self.min_visible,
            seed=seed,
        )


@dataclass(frozen=True)
class Change:
    """Random parameters of `EventAugment`. Intervals (from, to) are relative to the window, the width or the height."""

    flip: bool
    swap: bool
    shift: tuple[float, float]
    zoom: float
    drop: float
    lost_time: tuple[float, float]
    lost_x: tuple[float, float]
    lost_y: tuple[float, float]
    min_visible: float
    seed: int

    def events(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> Events:
        """Drop events of a window (t0_us, t1_us], and swap polarities."""
        keep = np.ones(len(events), bool)
        if self.drop:
            keep &= np.random.default_rng([self.seed, t1_us % 2**63]).random(len(events)) >= self.drop
        if _length(self.lost_time):
            keep &= ~_within(events.t - t0_us, self.lost_time, t1_us - t0_us)
        if _length(self.lost_x) and _length(self.lost_y):
            keep &= ~(_within(events.x, self.lost_x, width) & _within(events.y, self.lost_y, height))
        p = events.p ^ 1 if self.swap else events.p
        if keep.all():
            return Events(events.t, events.x, events.y, p)
        return Events(events.t[keep], events.x[keep], events.y[keep], p[keep])

    def frames(
        self, frames: np.ndarray, boxes: np.ndarray, labels: np.ndarray, empty: float = 0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Flip, zoom and shift frames [..., H, W], boxes float [N, 4] xyxy pixels and labels [N]; returns new arrays.

        empty: padding value, that of a cell without events
        """
        height, width = frames.shape[-2:]
        dx, dy = round(self.shift[0] * width), round(self.shift[1] * height)
        boxes = boxes.copy()
        if self.flip:
            frames = frames[..., ::-1]
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        if self.zoom != 1 or dx or dy:
            # In one step: the shift may bring back what the zoom moves out of the frame.
            frames = _gather(frames, _sources(width, self.zoom, dx), _sources(height, self.zoom, dy), empty)
            centre = np.array([width, height, width, height], boxes.dtype) / 2
            shift = np.array([dx, dy, dx, dy], boxes.dtype)
            boxes = ((boxes - centre) * self.zoom + centre + shift).astype(boxes.dtype)
            before = _area(boxes)
            boxes = np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))
            after = _area(boxes)
            keep = (after >= self.min_visible * before) & (after > 0)
            boxes, labels = boxes[keep], labels[keep]
        return np.ascontiguousarray(frames), boxes, labels


def _sources(size: int, zoom: float, shift: int) -> np.ndarray:
    """Source index of each cell of a line of `size` after scaling about its centre and shifting."""
    if zoom == 1:
        return np.arange(size) - shift
    return np.floor((np.arange(size) - shift + 0.5 - size / 2) / zoom + size / 2).astype(int)


def _gather(frames: np.ndarray, columns: np.ndarray, rows: np.ndarray, empty: float) -> np.ndarray:
    """frames[..., rows, columns]; `empty` where the indices lie outside."""
    height, width = frames.shape[-2:]
    out = np.full_like(frames, empty)
    to_y, to_x = (np.flatnonzero((0 <= i) & (i < n)) for i, n in ((rows, height), (columns, width)))
    if len(to_y) and len(to_x):
        # Indices increase, so the valid output cells are contiguous.
        y, x = slice(to_y[0], to_y[-1] + 1), slice(to_x[0], to_x[-1] + 1)
        out[..., y, x] = frames[..., rows[y], :][..., columns[x]]
    return out


def _interval(length: float, place: float) -> tuple[float, float]:
    start = place * (1 - length)
    return start, start + length


def _length(interval: Sequence[float]) -> float:
    return interval[1] - interval[0]


def _within(values: np.ndarray, interval: tuple[float, float], size: int) -> np.ndarray:
    return (values >= interval[0] * size) & (values < interval[1] * size)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
