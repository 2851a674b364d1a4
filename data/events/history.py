"""Windows before each label, a set number of them, for AP against the length of history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def history_windows(windows: np.ndarray, count: int | None) -> np.ndarray:
    """`WINDOW` [N] of sequential sampling -> those of each label: its own and the `count` - 1 before it; None: all
    since its recording began. They overlap between labels.

    The first window of each label has a `start`, and the last one alone its `image_id`. A label nearer to the start of
    its recording than `count` windows has fewer.
    """
    starts = np.flatnonzero(windows["start"])

    def before() -> Iterator[np.ndarray]:
        for last in np.flatnonzero(windows["image_id"]):
            start = starts[np.searchsorted(starts, last, side="right") - 1]
            yield windows[start if count is None else max(start, last + 1 - count) : last + 1]

    return _of_labels(before())


def windows_before(windows: np.ndarray, count: int | None, clip_starts_us: Sequence[int]) -> np.ndarray:
    """The same of random sampling: windows as long as the label's own, each ending where the next one begins.

    clip_starts_us: the start of each clip's recording. No window ends before it; one that reaches beyond is as the
    window of a label there, its steps before the start empty.
    """

    def before() -> Iterator[np.ndarray]:
        for own in windows:
            length = int(own["t1"] - own["t0"])
            most = max(-(-int(own["t1"] - clip_starts_us[own["clip"]]) // length), 1)
            mine = np.repeat(own, most if count is None else min(count, most))
            for time in ("t0", "t1"):
                mine[time] -= length * np.arange(len(mine))[::-1]
            yield mine

    return _of_labels(before())


def history_lengths(windows: np.ndarray) -> np.ndarray:
    """int64 [labels, 2]: windows since the state was reset, the label's own included, and the time they cover [us]."""
    starts = np.flatnonzero(windows["start"])
    sizes = np.diff([*starts, len(windows)])
    number = 1 + np.arange(len(windows)) - np.repeat(starts, sizes)
    covered = windows["t1"] - np.repeat(windows["t0"][starts], sizes)
    return np.stack([number, covered], 1)[windows["image_id"] > 0]


def _of_labels(parts: Iterator[np.ndarray]) -> np.ndarray:
    found = []
    for part in parts:
        found.append(mine := part.copy())
        mine["image_id"][:-1], mine["start"] = 0, False
        mine["start"][0] = True
    return np.concatenate(found)
