"""Compute the window of time of each sample: one before each label, or windows that tile a whole recording."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from registry import UserError

from ..recordings import Span
from .clip import Clip

# Events with t0 < t <= t1 of recording number `clip`. `image_id`: number of the label time, from 1; 0: the window does
# not end at a label. `start`: the first window of a recording.
WINDOW = np.dtype([("clip", "i4"), ("t0", "i8"), ("t1", "i8"), ("image_id", "i8"), ("start", "?")])


def label_windows(clip: int, times: np.ndarray, window_us: int, first_id: int) -> np.ndarray:
    """`WINDOW` [N] for random sampling: the last `window_us` before each label time [us, sorted]."""
    windows = np.zeros(len(times), WINDOW)
    windows["clip"], windows["t0"], windows["t1"] = clip, np.asarray(times) - window_us, times
    windows["image_id"] = first_id + np.arange(len(times))
    windows["start"] = True
    return windows


def sequential_windows(
    clip: int,
    times: np.ndarray,
    window_us: int,
    first_id: int,
    recorded: Span | None = None,
    shortest_us: int = 1,
) -> np.ndarray:
    """`WINDOW` [N] for sequential sampling: they tile a recording from its start to its last label, without overlap.

    The recording is cut at each label time [us, sorted], and the time between two labels into equal windows, with a
    length as near to `window_us` as possible: exactly that where labels lie at its multiples.

    recorded:    span of the events; None: unknown, the recording starts at 0. The first window includes its start
    shortest_us: a first label nearer to the start than this, or before it, has the `window_us` before it

    Labels later than the last event by more than the length of the recording belong to another clock: each has the
    `window_us` before it, and the gaps between them are left out.
    """
    times = np.asarray(times, np.int64)
    start = 0 if recorded is None else recorded.start_us
    if times[0] - start < shortest_us:
        start = int(times[0]) - window_us
    before = np.concatenate([[start], times[:-1]])
    if recorded is not None and recorded.last_us is not None:
        beyond = times - recorded.last_us > max(recorded.last_us - recorded.start_us, window_us)
        before = np.where(beyond, np.maximum(before, times - window_us), before)
    span = times - before
    count = np.maximum(np.rint(span / window_us).astype(np.int64), 1)  # windows up to each label
    last = np.cumsum(count) - 1  # the window that ends at each label
    before, span, number = (np.repeat(a, count) for a in (before, span, count))
    piece = np.arange(len(number)) - np.repeat(last + 1 - count, count)  # 0, 1, ... up to each label
    out = np.zeros(len(number), WINDOW)
    out["clip"], out["start"][0] = clip, True
    out["t0"], out["t1"] = before + span * piece // number, before + span * (piece + 1) // number
    if recorded is not None and recorded.first_us == start:
        out["t0"][0] -= 1  # windows exclude their start t0
    out["image_id"][last] = first_id + np.arange(len(times))
    return out


def cut_windows(
    split: str, clips: list[Clip], cut: Callable[[int, Clip, int], np.ndarray], shortest_us: int
) -> np.ndarray:
    """`WINDOW` [N] of all clips, in order. Image ids number the label times, so they are equal in all samplings.

    cut:         (number of the clip, clip, id of its first label time) -> `WINDOW` [N] of a clip with labels
    shortest_us: UserError for a window shorter than this, and where there is no window
    """
    windows, count = [np.zeros(0, WINDOW)], 1
    for number, clip in enumerate(clips):
        if not len(clip.times):
            continue
        mine = cut(number, clip, count)
        short = mine["t1"] - mine["t0"] < shortest_us
        if short.any():
            t1 = mine["t1"][int(short.argmax())]
            raise UserError(
                f"{clip.file_name}: the window that ends at {t1} us is shorter than {shortest_us} us, one for each of "
                f"num_steps. Label times lie too near each other for sequential sampling"
            )
        windows.append(mine)
        count += len(clip.times)
    if len(windows) == 1:
        what = f"label time in {len(clips)} recordings. Look at the label files" if clips else "recording there"
        raise UserError(f"split {split!r}: no {what}")
    return np.concatenate(windows)


def windows_of(windows: np.ndarray, clip: int) -> np.ndarray:
    """The windows of one clip; `windows` are sorted by clip."""
    return windows[slice(*np.searchsorted(windows["clip"], [clip, clip + 1]).tolist())]
