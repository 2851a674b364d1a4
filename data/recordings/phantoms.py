"""Detect phantom boxes: labels that repeat exactly for a long time without an object, as in some clips of Gen1."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..problems import Problem

TIMES, LASTING_US = 10, 10_000_000  # minimum number of label times and duration


def phantom_boxes(boxes: np.ndarray, path: str | Path, no_track: int) -> list[Problem]:
    """A problem for each box in `boxes` (`BOX_DTYPE` [N]) that repeats exactly for long under several tracks or without
    one. Repeated boxes of one track may be a parked car."""
    if len(boxes) < TIMES:
        return []
    columns = np.stack([boxes[name].astype(np.float64) for name in ("class_id", *"xywh")], axis=1)
    _, group, count = np.unique(columns, axis=0, return_inverse=True, return_counts=True)
    found = []
    for k in np.flatnonzero(count >= TIMES):
        same = boxes[group.reshape(-1) == k]
        first, last, times = same["t"].min(), same["t"].max(), len(np.unique(same["t"]))
        tracks = np.unique(same["track_id"])
        if times < TIMES or last - first < LASTING_US or (len(tracks) == 1 and tracks[0] != no_track):
            continue
        x, y, w, h = (f"{same[0][name]:g}" for name in "xywh")
        under = f"{len(tracks)} track ids" if len(tracks) > 1 else "no track id"
        what = (
            f"class {same[0]['class_id']}, x, y, w, h = {x}, {y}, {w}, {h} at {times} label times from {first} us to "
        )
        remedy = "It is kept: look at the recording there, and remove the label if there is no object"
        found.append(Problem("phantom box", path, "", f"{what}{last} us, under {under}", remedy))
    return found
