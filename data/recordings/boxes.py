"""Read, validate and write Prophesee `_bbox.npy` labels, in both published field orders.

Old files: ts, x, y, w, h, class_id, confidence, track_id. New ones: t, x, y, w, h, class_id, track_id,
class_confidence. x, y is the top-left corner in pixels, t in us on the clock of the clip. Tracks and confidences are
optional.
"""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np

from ..problems import Problem, Problems
from .phantoms import phantom_boxes

BOX_DTYPE = np.dtype(
    [
        ("t", "<i8"),
        ("x", "<f4"),
        ("y", "<f4"),
        ("w", "<f4"),
        ("h", "<f4"),
        ("class_id", "<u4"),
        ("track_id", "<u4"),
        ("class_confidence", "<f4"),
    ],
    align=True,  # 40 bytes a record, as the published files
)
OLD_BOX_DTYPE = np.dtype(
    {
        "names": ["ts", "x", "y", "w", "h", "class_id", "confidence", "track_id"],
        "formats": ["<u8", "<f4", "<f4", "<f4", "<f4", "u1", "<f4", "<u4"],
        "offsets": [0, 8, 12, 16, 20, 24, 28, 32],
        "itemsize": 40,
    }
)
_OLD_NAMES = {"t": "ts", "class_confidence": "confidence"}
# Field names in files of other tools.
_OTHER_NAMES = {
    "t": ("ts", "timestamp"),
    "class_id": ("class", "label"),
    "class_confidence": ("confidence", "score"),
}
NO_TRACK = (1 << 32) - 1  # `track_id` of a box without one: -1 in 32 bits, as many files have it
_DEFAULTS = {"track_id": NO_TRACK, "class_confidence": 1.0}  # of fields that may be absent
_SAME = 0.8  # IoU from which two boxes of one class and time are duplicates: NMS leaves no two detections so close
_NEIGHBOURS = 256  # following rows of the same time that a box is compared with: more than any frame holds
# Errors of np.load on damaged files.
_DAMAGE = (ValueError, EOFError, SyntaxError, BadZipFile, TokenError, TypeError, KeyError, OverflowError, MemoryError)
_ROUNDING = 1e-3  # pixels outside the sensor that are float32 rounding of x + w, clipped without a report


def read_boxes(
    path: str | Path, width: int, height: int, num_classes: int, problems: Problems, earliest_us: int = 0
) -> np.ndarray:
    """Valid boxes of one clip, `BOX_DTYPE` [N] in order of time, clipped to the `width` x `height` sensor.

    Dropped or repaired, and added to `problems`: boxes that are not finite, have no size, lie entirely or partly
    outside the sensor or before `earliest_us` (negative for recordings with negative times), and duplicates: of two
    boxes of one time and class with IoU >= 0.8 the last is kept. Fatal: a file without such an array, a class id of
    `num_classes` or above. An empty array is a clip without objects. Defaults: `track_id` `NO_TRACK`, also for ids
    below 0; `class_confidence` 1.
    """
    return check_boxes(_load(path, problems), path, width, height, num_classes, problems, earliest_us)


def check_boxes(
    raw: np.ndarray,
    path: str | Path,
    width: int,
    height: int,
    num_classes: int,
    problems: Problems,
    earliest_us: int = 0,
) -> np.ndarray:
    """`read_boxes` for an array that is already loaded from `path`."""
    boxes = _to_boxes(raw, path, problems)
    rows = np.arange(len(boxes))

    def report(bad: np.ndarray, kind: str, value, remedy: str, fatal: bool = False, drop: bool = True) -> None:
        nonlocal boxes, rows
        for i in np.flatnonzero(bad):
            problems.add(Problem(kind, path, f"record {rows[i]}", value(boxes[i]), remedy, fatal))
        if drop and bad.any():
            boxes, rows = boxes[~bad], rows[~bad]

    def xywh(box: np.void) -> str:
        return "x, y, w, h = {}, {}, {}, {}".format(*(f"{box[k]:g}" for k in "xywh"))

    dropped = "The box is dropped"
    unknown = boxes["class_id"] >= num_classes
    remedy = f"Class ids are 0..{num_classes - 1}: correct it, or name more classes"
    report(unknown, "class id out of range", lambda b: int(b["class_id"]), remedy, fatal=True)
    report(boxes["t"] < earliest_us, "label before time zero", lambda b: f"t = {b['t']} us", dropped)
    if (falls := np.diff(boxes["t"]) < 0).any():
        i = int(falls.argmax())
        value = f"t = {boxes['t'][i + 1]} us after {boxes['t'][i]} us; {int(falls.sum())} such records"
        remedy = "The labels are sorted by time"
        problems.add(Problem("label times out of order", path, f"record {rows[i + 1]}", value, remedy))
    report(~_finite(boxes), "box not finite", xywh, dropped)
    report((boxes["w"] <= 0) | (boxes["h"] <= 0), "box without size", xywh, dropped)

    for _ in range(2):  # first drop boxes entirely outside, then compute the clipped ones again
        corners = np.stack([boxes["x"], boxes["y"], boxes["x"], boxes["y"]], axis=1).astype(np.float64)
        corners[:, 2] += boxes["w"]
        corners[:, 3] += boxes["h"]
        clipped = np.clip(corners, 0, (width, height, width, height))
        outside = np.any(clipped[:, 2:] <= clipped[:, :2], axis=1)
        report(outside, "box outside the sensor", xywh, dropped)
    cut = np.abs(clipped - corners).max(axis=1, initial=0) > _ROUNDING
    report(cut, "box partly outside the sensor", xywh, f"It is clipped to {width}x{height}", drop=False)
    boxes["x"], boxes["y"] = clipped[:, 0], clipped[:, 1]
    boxes["w"], boxes["h"] = (clipped[:, 2:] - clipped[:, :2]).T

    same = "The last box of one class at one place and time stays"
    report(_repeated(boxes), "repeated box", lambda b: f"t = {b['t']} us, class {b['class_id']}, {xywh(b)}", same)
    boxes = boxes[np.argsort(boxes["t"], kind="stable")]
    for phantom in phantom_boxes(boxes, path, NO_TRACK):
        problems.add(phantom)
    return boxes


def write_boxes(path: str | Path, boxes: np.ndarray, old: bool = False) -> None:
    """Write `BOX_DTYPE` boxes [N], in the field order of the first Gen1 release where `old`."""
    out = np.zeros(len(boxes), OLD_BOX_DTYPE if old else BOX_DTYPE)
    for name in BOX_DTYPE.names or ():
        out[_OLD_NAMES.get(name, name) if old else name] = boxes[name]
    np.save(path, out, allow_pickle=False)


def _repeated(boxes: np.ndarray) -> np.ndarray:
    """bool [N]: boxes with a duplicate in a later row: same time and class, IoU of at least `_SAME`."""
    repeated = np.zeros(len(boxes), bool)
    order = np.argsort(boxes["t"], kind="stable")
    t, kind = boxes["t"][order], boxes["class_id"][order]
    x1, y1, w, h = (boxes[k][order].astype(np.float64) for k in "xywh")
    x2, y2, area = x1 + w, y1 + h, w * h
    for step in range(1, min(len(boxes), _NEIGHBOURS + 1)):
        a = np.flatnonzero(t[step:] == t[:-step])
        if not len(a):  # nor at any larger step, as times are in order
            break
        a = a[kind[a] == kind[a + step]]
        b = a + step
        shared = np.maximum(np.minimum(x2[a], x2[b]) - np.maximum(x1[a], x1[b]), 0)
        shared *= np.maximum(np.minimum(y2[a], y2[b]) - np.maximum(y1[a], y1[b]), 0)
        repeated[order[a[shared >= _SAME * (area[a] + area[b] - shared)]]] = True
    return repeated


def _finite(boxes: np.ndarray) -> np.ndarray:
    return np.isfinite(np.stack([boxes[k] for k in "xywh"])).all(axis=0)


def _load(path: str | Path, problems: Problems) -> np.ndarray:
    """The array of a label file; an empty one where it is invalid and `problems` collects."""

    def fatal(value: str, remedy: str) -> np.ndarray:
        problems.add(Problem("not a label array", path, "", value, remedy, fatal=True))
        return np.empty(0, BOX_DTYPE)

    try:
        raw = np.load(path, allow_pickle=False)
    except _DAMAGE as error:
        return fatal(str(error), f"Save a numpy array with the fields {', '.join(BOX_DTYPE.names or ())}")
    if not isinstance(raw, np.ndarray):
        return fatal("an .npz archive", "Save one array with numpy.save")
    return raw


def _to_boxes(raw: np.ndarray, path: str | Path, problems: Problems) -> np.ndarray:
    """Convert to `BOX_DTYPE` [N]; empty where fields are missing and `problems` collects."""

    def fatal(kind: str, record: str, value: object, remedy: str) -> np.ndarray:
        problems.add(Problem(kind, path, record, value, remedy, fatal=True))
        return np.empty(0, BOX_DTYPE)

    fields = ", ".join(name for name in BOX_DTYPE.names or () if name not in _DEFAULTS)
    if raw.size == 0:
        return np.empty(0, BOX_DTYPE)
    if raw.ndim != 1 or raw.dtype.names is None:
        return fatal("not a label array", "", f"{raw.dtype} of shape {raw.shape}", f"It needs the fields {fields}")
    boxes = np.empty(len(raw), BOX_DTYPE)
    for name in BOX_DTYPE.names or ():
        known = [n for n in (name, *_OTHER_NAMES.get(name, ())) if n in raw.dtype.names]
        source = known[0] if known else ""
        wanted = "iuf" if BOX_DTYPE[name].kind == "f" or name in _DEFAULTS else "iu"
        if name in _DEFAULTS:
            usable = source and raw.dtype[source].kind in wanted and not raw.dtype[source].shape
            boxes[name] = raw[source] if usable and name != "track_id" else _DEFAULTS[name]
            if usable and name == "track_id":
                boxes[name] = _tracks(raw[source], path, problems)
            continue
        if not source:
            return fatal("missing field", f"field {name!r}", list(raw.dtype.names), f"It needs the fields {fields}")
        if raw.dtype[source].kind not in wanted or raw.dtype[source].shape:
            kinds = "a number" if "f" in wanted else "an integer" + " of us" * (name == "t")
            return fatal("wrong field type", f"field {source!r}", raw.dtype[source], f"Save it as {kinds}")
        if BOX_DTYPE[name].kind != "f":
            limits = np.iinfo(BOX_DTYPE[name])
            if (bad := (raw[source] > limits.max) | (raw[source] < limits.min)).any():
                i = int(bad.argmax())
                remedy = f"Give {limits.min} to {limits.max}"
                return fatal("value out of range", f"record {i}", f"{source} = {raw[source][i]}", remedy)
        boxes[name] = raw[source]
    return boxes


def _tracks(ids: np.ndarray, path: str | Path, problems: Problems) -> np.ndarray:
    """uint32 [N]; `NO_TRACK` for ids below 0 and for those that are no 32-bit integers, added to `problems`."""
    usable = (ids >= 0) & (ids < NO_TRACK)
    if ids.dtype.kind == "f":
        usable &= np.floor(ids) == ids
    for i in np.flatnonzero(~usable & ~(ids < 0) & ~(ids == NO_TRACK)):
        remedy = "The box is kept, without a track"
        problems.add(Problem("track id out of range", path, f"record {i}", f"track_id = {ids[i]}", remedy))
    tracks = np.full(len(ids), NO_TRACK, np.uint32)
    tracks[usable] = ids[usable]
    return tracks
