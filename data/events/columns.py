"""Events kept as four arrays t, x, y, p, as `.npz` and HDF5 do: their names, types and values are checked here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .interface import Events

NAMES = "txyp"


def check_columns(path: str | Path, columns: dict[str, Any]) -> int:
    """Events in `columns` (arrays or anything with dtype and shape). ValueError unless t, x, y, p are vectors of
    integers (p may be boolean) of one length."""
    missing = [name for name in NAMES if name not in columns]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing. Events need t [us], x, y, p, one entry per event")
    for name in NAMES:
        column = columns[name]
        if len(column.shape) != 1:
            raise ValueError(f"{path}: column {name!r} has the shape {column.shape}. Save one entry per event")
        if column.dtype.kind not in ("iub" if name == "p" else "iu"):
            unit = ", times in us" if name == "t" else ""
            raise ValueError(f"{path}: column {name!r} is {column.dtype}. Save it as integers{unit}")
    lengths = [columns[name].shape[0] for name in NAMES]
    if len(set(lengths)) > 1:
        raise ValueError(f"{path}: columns t, x, y, p have {lengths} entries. Save one entry per event in each")
    return lengths[0]


def to_events(path: str | Path, start: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Events:
    """Slices of the columns that begin at event `start`, in our types. ValueError for values that do not fit them."""
    for name, values, limit in (("t", t, 1 << 62), ("x", x, 1 << 16), ("y", y, 1 << 16), ("p", p, 2)):
        bad = values >= limit
        if values.dtype.kind == "i":
            bad |= values < (-limit if name == "t" else 0)
        if bad.any():
            i = int(bad.argmax())
            low = -limit if name == "t" else 0
            raise ValueError(
                f"{path}: event {start + i}: {name} = {values[i]} is outside {low}..{limit - 1}. Correct it"
            )
    return Events(t.astype(np.int64), x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8))
