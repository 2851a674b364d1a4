"""Check label times against the events: same unit, same clock, events in every labelled window."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..problems import Problem, Problems
from ..recordings import Span
from .clip import Clip

_FACTORS = (1_000, 1_000_000)
_REACH = 0.01  # labels that cover a smaller share of a recording may be in another unit


def report_label_times(clip: Clip, windows: np.ndarray, problems: Problems) -> None:
    """Add the problem of a clip's label times to `problems`, as far as it is known without reading all events."""
    recorded = clip.recorded
    if recorded is None or not len(windows):
        return
    if recorded.last_us is not None and windows["t0"].max() >= recorded.last_us:
        with suppress(ValueError):  # a damaged recording raises its error when it is read
            recorded = clip.reader.span(exact=True)
        clip.reader.close()
    if recorded and (problem := label_time_problem(clip.reader.path, windows, recorded)):
        problems.add(problem)


def label_time_problem(
    file: str | Path, windows: np.ndarray, recorded: Span, silences: Sequence[tuple[int, int]] = ()
) -> Problem | None:
    """The problem of a recording whose labels do not match its events; None where they do.

    windows:  `WINDOW` [N], in order of time
    recorded: span of its events
    silences: intervals (a, b) without events, as far as they are known
    """
    windows = windows[windows["image_id"] > 0]
    return _in_another_unit(file, windows["t1"], recorded) or _without_events(file, windows, recorded, silences)


def _in_another_unit(file: str | Path, times: np.ndarray, recorded: Span) -> Problem | None:
    """Problem where the labels cover a fair share of the recording only if multiplied or divided by `_FACTORS`."""
    start, end = recorded.start_us, recorded.last_us
    if not len(times) or end is None or end <= start:
        return None
    length, last = end - start, int(times[-1])
    for factor in _FACTORS:
        if 0 < last - start < _REACH * length and 0.2 * length < (last - start) * factor <= 1.1 * length:
            fits, remedy = "multiplied by", "multiply label times in ms or s, or divide event times in ns"
        elif last - start > length and 0.2 * length < last / factor - start <= 1.1 * length:
            fits, remedy = "divided by", "divide label times in ns, or multiply event times in ms"
        else:
            continue
        value = f"labels from {times[0]} to {last} us, events from {recorded.first_us} to {end} us: {fits} {factor} "
        value += "the label times would fit"
        return Problem("label times in another unit", file, "", value, f"Save both in us: {remedy}")
    return None


def _without_events(
    file: str | Path, windows: np.ndarray, recorded: Span, silences: Sequence[tuple[int, int]]
) -> Problem | None:
    t0, t1 = windows["t0"], windows["t1"]
    first, last = recorded.first_us, recorded.last_us
    before = t1 < first
    empty = before if last is None else before | (t0 >= last)
    value = ""
    for begin, end in sorted(silences, key=lambda silence: silence[0] - silence[1]):
        if (inside := (t0 >= begin) & (t1 < end)).any():
            empty = empty | inside
            value = value or f", and none from {begin} us to {end} us"
    if not empty.any():
        return None
    value = f"{', the last at ' + str(last) + ' us' if last is not None else ''}{value}"
    value = (
        f"{int(empty.sum())} of {len(windows)} labelled windows hold no events, the first event is at {first} us{value}"
    )
    remedy = "They are kept as samples without events: correct the label times, or copy the recording again"
    if before.any() and (last is None or first + t1[-1] <= last + (t1 - t0).max()):
        remedy += ". Where label times count from the first event, as the SDK of the camera's maker gives them, set "
        remedy += "data.args.shift_clock=true"
    return Problem("labelled windows without events", file, f"label time {t1[empty][0]} us", value, remedy)
