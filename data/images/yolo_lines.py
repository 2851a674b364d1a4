"""Detect the format of long YOLO lines, from all lines of a split: outlines, or boxes with more columns.

Four numbers after the class are a box. Longer lines are ambiguous: `0 .5 .5 .4 .4 .45 .45 .55 .55` is an outline of
four points, or a box with two key points.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

LINES = ("auto", "box", "outline")
_NEAR = 0.01  # tolerance relative to the image, for points on the border of a box or of the image
_FLAT = 1e-3  # area relative to the bounding box; points below it are collinear, not an outline
_CHAIN = 10  # points that are checked for crossing edges

Hull = tuple[float, float, float, float]  # x1, y1, x2, y2 relative to the image
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Longer:
    """A line with more than four numbers after the class.

    count: how many numbers
    hull:  bounding box of the numbers as points; NaN where one is NaN
    vote:  format from this line alone: "box", "outline", "outside" (points outside the image) or "" (ambiguous)
    """

    count: int
    hull: Hull
    vote: str


def longer_line(numbers: Sequence[float]) -> Longer:
    xs, ys = numbers[::2], numbers[1::2]
    hull = min(xs), min(ys), max(xs), max(ys)
    if not all(map(math.isfinite, numbers)):
        return Longer(len(numbers), (math.nan,) * 4, "")
    return Longer(len(numbers), hull, _vote(numbers, hull))


def what_lines_mean(longer: Sequence[Longer]) -> str:
    """Format of the lines. "box": the first four numbers are a box. "outline": all numbers are points. "": ambiguous.

    Outlines differ in length. Boxes with key points have equal length, their points lie within the box, and as outlines
    many of them would cross themselves.
    """
    longer = [line for line in longer if not math.isnan(line.hull[0])]
    if not longer:
        return "outline"  # only lines with NaN, which are dropped in either case
    lengths = {line.count for line in longer}
    votes = Counter(line.vote for line in longer)
    if lengths <= {5, 6} and votes["box"] >= 0.9 * len(longer):  # confidence, and track number
        return "box"
    if len(lengths) == 1 and votes["box"] >= 0.05 * len(longer) and votes["outline"] <= 0.1 * votes["box"]:
        return "box"
    return "outline" if _outlines(votes, lengths) else ""


def _outlines(votes: Counter[str], lengths: set[int]) -> bool:
    if any(length % 2 or length < 6 for length in lengths):
        return False
    if len(lengths) == 1:
        return votes["outline"] > 0 and votes["box"] <= 0.1 * votes["outline"]
    return votes["outline"] + votes[""] > votes["box"]


def _vote(numbers: Sequence[float], hull: Hull) -> str:
    x, y, w, h = numbers[:4]
    box = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    sound = w > 0 and h > 0 and _within((box[0], box[1]), (0, 0, 1, 1)) and _within((box[2], box[3]), (0, 0, 1, 1))
    rest = list(numbers[4:])
    confidence = rest[0]
    if len(rest) == 1:
        return "box" if 0 <= confidence <= 1 else ""
    if sound and len(rest) == 2 and 0 <= confidence <= 1 <= rest[1] and rest[1].is_integer():  # number of the track
        return "box"
    flags = rest[2::3]
    if len(rest) % 3 == 0 and all(v in (0, 1, 2) for v in flags):  # key points with visibility
        seen = [point for point, v in zip(zip(rest[::3], rest[1::3], strict=True), flags, strict=True) if v]
        if sound and all(_within(point, box) for point in seen):
            return "box"
    if not (_within(hull[:2], (0, 0, 1, 1)) and _within(hull[2:], (0, 0, 1, 1))):
        return "outside"
    if len(rest) % 2:
        return ""
    points = list(zip(numbers[::2], numbers[1::2], strict=True))
    width, height = hull[2] - hull[0], hull[3] - hull[1]
    flat = abs(_area(points)) <= _FLAT * width * height
    if _is_parallelogram(points, max(width, height)) and not flat:  # an oriented box
        return "outline"
    if not sound or not all(_within(point, box) for point in points[2:] if point != (0, 0)):
        return "outline"
    return "box" if flat or _crosses_itself(points) else ""


def _within(point: Sequence[float], box: Hull) -> bool:
    x, y = point
    return box[0] - _NEAR <= x <= box[2] + _NEAR and box[1] - _NEAR <= y <= box[3] + _NEAR


def _area(points: list[Point]) -> float:
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, points[1:] + points[:1], strict=True)) / 2


def _is_parallelogram(points: list[Point], side: float) -> bool:
    if len(points) != 4:
        return False
    a, b, c, d = points
    return all(abs(a[k] + c[k] - b[k] - d[k]) < 0.02 * side + 1e-4 for k in (0, 1))


def _crosses_itself(points: list[Point]) -> bool:
    """Whether two edges among the first points cross."""
    chain = points + points[:1] if len(points) <= _CHAIN else points[:_CHAIN]
    edges = list(zip(chain, chain[1:], strict=False))
    for i, (a, b) in enumerate(edges):
        for c, d in edges[i + 2 :]:
            if _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0:
                return True
    return False


def _side(a: Point, b: Point, p: Point) -> float:
    """Cross product (b - a) x (p - a): above 0 where `p` lies left of the line from `a` to `b`."""
    return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
