"""Prophesee `_bbox.npy` labels: both published field orders, read by name and validated.

Old files: ts, x, y, w, h, class_id, confidence, track_id. New ones: t, x, y, w, h, class_id, track_id,
class_confidence. x, y is the top-left corner in pixels, t in us on the clock of the clip.
"""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np

from ..problems import Problem, Problems

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
# All that a damaged header raises.
_DAMAGE = (ValueError, EOFError, SyntaxError, BadZipFile, TokenError, TypeError, KeyError, OverflowError, MemoryError)
_ROUNDING = 1e-3  # pixels outside the sensor that are float32 rounding of x + w, clipped without a report


def read_boxes(path: str | Path, width: int, height: int, num_classes: int, problems: Problems) -> np.ndarray:
    """Valid boxes of one clip, `BOX_DTYPE` [N] in order of time, clipped to the `width` x `height` sensor.

    Repaired or dropped, and added to `problems`: boxes that are not finite, of no size, wholly or partly outside the
    sensor, before time zero, or repeated for one (t, track_id) (the last stays). Fatal: a file that is no such array,
    a class id of `num_classes` or above. An empty array is a clip without objects.
    """
    return check_boxes(_load(path, problems), path, width, height, num_classes, problems)


def check_boxes(
    raw: np.ndarray, path: str | Path, width: int, height: int, num_classes: int, problems: Problems
) -> np.ndarray:
    """`read_boxes` of an array that was read from `path` already."""
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
    report(boxes["t"] < 0, "label before time zero", lambda b: f"t = {b['t']} us", dropped)
    report(~_finite(boxes), "box not finite", xywh, dropped)
    report((boxes["w"] <= 0) | (boxes["h"] <= 0), "box without size", xywh, dropped)

    for _ in range(2):  # boxes wholly outside go first, then those partly outside are cut
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

    last_of = {key: i for i, key in enumerate(zip(boxes["t"].tolist(), boxes["track_id"].tolist(), strict=True))}
    repeated = np.ones(len(boxes), bool)
    repeated[list(last_of.values())] = False
    same = "The last box of one track at one time stays"
    report(repeated, "repeated box", lambda b: f"t = {b['t']} us, track {b['track_id']}", same)
    return boxes[np.argsort(boxes["t"], kind="stable")]


def write_boxes(path: str | Path, boxes: np.ndarray, old: bool = False) -> None:
    """Write `BOX_DTYPE` boxes [N], in the field order of the first Gen1 release where `old`."""
    out = np.zeros(len(boxes), OLD_BOX_DTYPE if old else BOX_DTYPE)
    for name in BOX_DTYPE.names or ():
        out[_OLD_NAMES.get(name, name) if old else name] = boxes[name]
    np.save(path, out, allow_pickle=False)


def _finite(boxes: np.ndarray) -> np.ndarray:
    return np.isfinite(np.stack([boxes[k] for k in "xywh"])).all(axis=0)


def _load(path: str | Path, problems: Problems) -> np.ndarray:
    """The array of a label file; an empty one where it is unusable and `problems` collects."""

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
    """The array with our names and types; empty where it has no such fields and `problems` collects."""

    def fatal(kind: str, record: str, value: object, remedy: str) -> np.ndarray:
        problems.add(Problem(kind, path, record, value, remedy, fatal=True))
        return np.empty(0, BOX_DTYPE)

    fields = ", ".join(BOX_DTYPE.names or ())
    if raw.size == 0:
        return np.empty(0, BOX_DTYPE)
    if raw.ndim != 1 or raw.dtype.names is None:
        return fatal("not a label array", "", f"{raw.dtype} of shape {raw.shape}", f"It needs the fields {fields}")
    boxes = np.empty(len(raw), BOX_DTYPE)
    for name in BOX_DTYPE.names or ():
        source = name if name in raw.dtype.names else _OLD_NAMES.get(name, name)
        if source not in raw.dtype.names:
            return fatal("missing field", f"field {name!r}", list(raw.dtype.names), f"It needs the fields {fields}")
        wanted = "iuf" if BOX_DTYPE[name].kind == "f" else "iu"
        if raw.dtype[source].kind not in wanted or raw.dtype[source].shape:
            kinds = "a number" if "f" in wanted else "an integer"
            return fatal("wrong field type", f"field {source!r}", raw.dtype[source], f"Save it as {kinds}")
        if BOX_DTYPE[name].kind != "f":
            limits = np.iinfo(BOX_DTYPE[name])
            if (bad := (raw[source] > limits.max) | (raw[source] < limits.min)).any():
                i = int(bad.argmax())
                remedy = f"Give {limits.min} to {limits.max}"
                return fatal("value out of range", f"record {i}", f"{source} = {raw[source][i]}", remedy)
        boxes[name] = raw[source]
    return boxes
