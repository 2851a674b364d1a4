"""Event times: clamp small steps back (jitter), reject larger ones, unwrap clocks of limited range; clock problems.

The time of an event is the running maximum of the recorded times, as in RVT.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..problems import Problem

# How far a time may lie behind the latest one. Readout and merging of streams reorder events within some 100 us; larger
# steps back mean damage. It is far shorter than any time step, so clamping hardly changes frames.
JITTER_US = 1000
TOLERATED = 0.01  # share of a file that may be clamped, outside the sensor or invalid
WRAP = 1 << 32  # range of the clock of a .dat
HALF = WRAP // 2
FALL = 3 * WRAP // 4  # a fall by more than 3/4 of the range is a wrap; less means time runs backwards


def too_many(count: int, total: int) -> bool:
    """Whether `count` bad events or words of `total` are an error; up to 10 never are."""
    return count > max(TOLERATED * total, 10)


def clamp(t: np.ndarray, latest: int | None = None) -> tuple[np.ndarray, np.ndarray | None, int | None]:
    """(running maximum of int64 times [N] that follow `latest`; bool [N] which were raised, None if none; index of the
    first one more than `JITTER_US` behind, which is an error, or None)."""
    if not len(t) or ((latest is None or t[0] >= latest) and (t[1:] >= t[:-1]).all()):
        return t, None, None
    top = np.maximum.accumulate(t)
    if latest is not None:
        np.maximum(top, latest, out=top)
    behind = top - t
    far = behind > JITTER_US
    return top, behind > 0, int(far.argmax()) if far.any() else None


def unwrap_clock(
    raw: np.ndarray, state: tuple[int, ...], span: int, jitter_ticks: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """Unwrap the values `raw` [N] of a clock that wraps at `span`: (int64 [N], state after them).

    state: (last unwrapped value, whether it came after a jump of more than 3/4 of the range); initially (-1, 0)

    A step forward of any length is a gap in the recording. A fall of more than 3/4 of the range is a wrap, unless it
    directly follows such a jump: then the value between them is damaged, and time runs backwards. After a wrap, a step
    forward by the whole range less `jitter_ticks` is a step back over the wrap.
    """
    values = raw.astype(np.int64)
    before, leapt = state
    if not len(raw):
        return values, (before, leapt)
    before = int(values[0]) if before < 0 else before
    steps = np.diff(values, prepend=before % span)
    far = 3 * span // 4
    if steps.min() >= -far and steps.max() <= far:  # fast path: neither a wrap nor a jump
        values += before - before % span
        return values, (int(values[-1]), 0)
    whole = steps >= span - jitter_ticks
    leaps = (steps > far) & ~whole
    wraps = steps < -far
    wraps[1:] &= ~leaps[:-1]
    wraps[0] &= not leapt
    whole &= before // span + np.cumsum(wraps) > 0
    values = before + np.cumsum(steps + span * wraps - span * whole)
    return values, (int(values[-1]), int(leaps[-1]))


def unwrap(raw: np.ndarray, before: int, time: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unwrap uint32 times [N]. The time before them is `before`, unwrapped `time`. Returns (int64 times [N], bool [N]
    where the clock wrapped, bool [N] where it rose by more than half its range)."""
    steps = np.diff(raw.astype(np.int64), prepend=before)
    wraps = steps < -FALL
    steps[wraps] += WRAP
    steps[steps > WRAP - JITTER_US] -= WRAP  # a small step back, over the wrap
    return time + np.cumsum(steps), wraps, steps > HALF


def backwards(path: str | Path, record: str, time: int, latest: int, count: int = 1) -> Problem:
    """Problem: a time too far behind the latest one."""
    value = f"{time} us after {latest} us" + (f"; {count} such records" if count > 1 else "")
    remedy = "Sort the recording by time, or copy it again"
    return Problem("time runs backwards", path, record, value, remedy, fatal=True)


def unclear(path: str | Path, gap: int, wrap: int) -> Problem:
    """Problem: a clock that wraps, and elsewhere jumps by more than half its range: one of them is damage."""
    value = f"it leaps by more than {HALF} us there, and falls by as much before record {wrap}"
    return Problem("unclear clock", path, f"record {gap}", value, "Copy the recording again", fatal=True)


def jitter(path: str | Path, record: str, count: int, total: int) -> Problem:
    """Problem: times slightly behind the latest one."""
    value = f"{count} of {total} events lie up to {JITTER_US} us behind an earlier one"
    remedy = "They are moved up to it; if they are many, sort the recording by time"
    return Problem("times out of order", path, record, value, remedy, too_many(count, total))


def outside_sensor(
    path: str | Path, record: str, x: int, y: int, sensor: tuple[int, int], count: int, total: int
) -> Problem:
    """Problem: events beyond the `sensor` of (height, width)."""
    value = f"x={x}, y={y} on {sensor[1]}x{sensor[0]}; {count} of {total} events"
    remedy = "They are dropped; if they are many, correct the sensor size"
    return Problem("events outside the sensor", path, record, value, remedy, too_many(count, total))


def without_events(path: str | Path, what: str = "it holds none") -> Problem:
    return Problem("recording without events", path, "", what, "It is read as one; if it had some, copy it again")


def truncated(path: str | Path, what: str, index: int, rest: int, size: int) -> Problem:
    """Problem: the last `what` (record or word) has only `rest` of `size` bytes."""
    remedy = f"It is left out: copy the file again, or cut it with `truncate -s -{rest}`"
    return Problem(f"truncated last {what}", path, f"{what} {index}", f"{rest} of {size} bytes", remedy)
