"""Validate boxes against image sizes (`valid_boxes`): drop, clip and report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..problems import Problem, Problems

_ROUNDING = 1e-2  # pixels outside the image that count as rounding errors, clipped without a report


def valid_boxes(
    boxes: np.ndarray,
    sizes: np.ndarray,
    describe: Callable[[int], tuple[str | Path, str, object]],
    problems: Problems,
) -> tuple[np.ndarray, np.ndarray]:
    """Check boxes [N, 4] xyxy pixels against images [N, 2] (width, height): (clipped boxes [N, 4], kept bool [N]).

    Boxes that are not finite, without size or entirely outside the image are dropped, others are clipped to it. Each is
    added to `problems` with the file, record and value of `describe(i)`.
    """

    def report(rows: np.ndarray, kind: str, remedy: str) -> None:
        for i in np.flatnonzero(rows):
            problems.add(Problem(kind, *describe(int(i)), remedy))

    boxes, limits = boxes.astype(np.float64).reshape(-1, 4), np.tile(sizes.reshape(-1, 2), 2)
    finite = np.asarray(np.isfinite(boxes).all(axis=1))
    report(~finite, "box not finite", "The box is dropped")
    empty: np.ndarray = finite & (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
    report(empty, "box without size", "The box is dropped")
    clipped = np.clip(np.where(finite[:, None], boxes, 0), 0, limits)
    outside: np.ndarray = finite & ~empty & (clipped[:, 2:] <= clipped[:, :2]).any(axis=1)
    report(outside, "box outside the image", "The box is dropped")
    keep: np.ndarray = finite & ~empty & ~outside
    cut = keep & (np.abs(clipped - np.where(keep[:, None], boxes, clipped)) > _ROUNDING).any(axis=1)
    report(cut, "box partly outside the image", "It is clipped to the image")
    return clipped, keep
