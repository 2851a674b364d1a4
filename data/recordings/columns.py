"""Recordings stored as arrays t, x, y, p (`.npz`, HDF5): four vectors, one array of records, or one array [N, 4]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from registry import UserError

from ..problems import Problem, Problems
from .blocks import Block, BlockReader
from .interface import Events

NAMES = "txyp"
ORDERS = ("txyp", "xytp", "xypt")  # of the columns of an array [N, 4], as tools write them
_KINDS = {"t": "iu", "x": "iuf", "y": "iuf", "p": "iufb"}  # of their types; a time in floats is mostly in seconds
LATEST_US = 10**17  # 3000 years: an epoch in ns lies above, any in us below


class ColumnReader(BlockReader):
    """Base class of formats whose `_source` is a list of arrays: one for each of t, x, y, p, or one for all four.

    x, y and p may have any numeric type; invalid values are dropped and counted. Times are integers in us.
    """

    BLOCK = 1 << 16
    _order = NAMES  # of the columns of one array [N, 4]
    _offset = 0  # added to all times [us]

    def _decode(self, start: int, stop: int, state: tuple[int, ...]) -> Block:
        t, *xyp = self._columns(start, stop)
        return Block(Events(whole_times(self.path, start, t) + self._offset, *xyp))

    def _columns(self, start: int, stop: int) -> list[np.ndarray]:
        """Rows start .. stop - 1 of t, x, y, p as stored."""
        parts = [np.asarray(array[start:stop]) for array in self._source]
        if len(parts) > 1:
            return parts
        (rows,) = parts
        return [rows[name] if rows.dtype.names else rows[:, self._order.index(name)] for name in NAMES]

    def _index_columns(self, count: int, problems: Problems) -> None:
        """Detect the order of the columns, then `_build_index`."""
        (first, *others) = self._source
        if not others and first.dtype.names is None:
            self._order = find_order(self.path, np.asarray(first[: self.BLOCK]), problems)
        self._build_index(count, problems)


def find_columns(path: str | Path, arrays: Mapping[str, Any], groups: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the arrays with events among `arrays` (anything with dtype and shape): t, x, y, p, or one for all four.
    UserError where there are none, with the content of the file (`arrays` and `groups`), or where a type or shape is
    wrong."""
    there = [name for name in NAMES if name in arrays]
    tables = [name for name, array in arrays.items() if _is_table(array)]
    if not there and len(tables) == 1:
        for name, (field, *_) in (arrays[tables[0]].dtype.fields or {}).items():
            if name in NAMES:
                _check_type(path, name, field)
        return (tables[0],)
    if missing := [name for name in NAMES if name not in there]:
        holds = [f"{name!r} ({array.dtype}, {list(array.shape)})" for name, array in arrays.items()]
        holds += [f"group {name!r}" for name in groups]
        some = ", ".join(holds[:12]) + (f" and {len(holds) - 12} more" if len(holds) > 12 else "")
        needs = "Save t [us], x, y, p under these names, one entry per event"
        raise UserError(f"{path}: column {missing[0]!r} is missing. It holds {some or 'no array'}. {needs}")
    for name in NAMES:
        array = arrays[name]
        if len(array.shape) != 1:
            raise UserError(f"{path}: column {name!r} has the shape {array.shape}. Save one entry per event")
        _check_type(path, name, array.dtype)
    lengths = [arrays[name].shape[0] for name in NAMES]
    if len(set(lengths)) > 1:
        raise UserError(f"{path}: columns t, x, y, p have {lengths} entries. Save one entry per event in each")
    return tuple(NAMES)


def _check_type(path: str | Path, name: str, dtype: np.dtype) -> None:
    if dtype.kind not in _KINDS[name]:
        unit = ", times in us: np.round(t * 1e6).astype(np.int64) where they are seconds" if name == "t" else ""
        raise UserError(f"{path}: column {name!r} is {dtype}. Save it as integers{unit}")


def _is_table(array: Any) -> bool:
    """Whether an array has records with fields t, x, y, p, or is numeric of shape [N, 4]."""
    if array.dtype.names:
        return len(array.shape) == 1 and set(NAMES) <= set(array.dtype.names)
    return len(array.shape) == 2 and array.shape[1] == 4 and array.dtype.kind in "iuf"


def find_order(path: str | Path, rows: np.ndarray, problems: Problems) -> str:
    """Detect the order of the columns of an array [N, 4], one of `ORDERS`, from its first `rows` [n, 4]: p has two
    values, and in all but 1 % of the rows times increase and pixels are integers. The result is added to `problems`.
    UserError where no order fits, or several."""
    fitting = [order for order in ORDERS if _fits(rows, order)] if len(rows) else [NAMES]
    if len(fitting) != 1:
        orders = " and as ".join(", ".join(order) for order in fitting)
        how = f"can be read as {orders}" if fitting else "are in no known order of t, x, y, p"
        first = f"The first row of {list(rows.shape)} is {rows[0].tolist()}"
        remedy = "Save t [us], x, y, p as four arrays of these names"
        raise UserError(f"{path}: the columns of its one array {how}. {first}. {remedy}")
    if len(rows):
        remedy = "If that is wrong, save t [us], x, y, p as four arrays of these names"
        what = f"its columns are read as {', '.join(fitting[0])}"
        problems.add(Problem("events in one array", path, "", what, remedy))
    return fitting[0]


def _fits(rows: np.ndarray, order: str) -> bool:
    t, x, y, p = (rows[:, order.index(name)] for name in NAMES)
    polarity = max(np.isin(p, pair).mean() for pair in ((0, 1), (-1, 1))) > 0.99
    rising = bool((t[1:] >= t[:-1]).mean() > 0.99) if len(t) > 1 else True
    pixels = all(bool(np.mean(v == np.floor(v)) > 0.99) for v in (x, y))
    return bool(polarity) and rising and pixels and t[-1] > t[0]


def whole_times(path: str | Path, start: int, t: np.ndarray) -> np.ndarray:
    """Times of the events from index `start` on, as int64. UserError for one that is no integer in us."""
    if t.dtype.kind == "f":
        bad = ~(np.floor(t) == t)
        if bad.any():
            i = int(bad.argmax())
            remedy = "Save times in us as integers: np.round(t * 1e6).astype(np.int64) where they are seconds"
            raise UserError(f"{path}: event {start + i}: t = {t[i]} is no whole number of us. {remedy}")
    bad = t >= LATEST_US
    if t.dtype.kind != "u":
        bad |= t <= -LATEST_US
    if bad.any():
        i = int(bad.argmax())
        remedy = "Save times in us: t // 1000 where they are ns"
        raise UserError(f"{path}: event {start + i}: t = {t[i]} us are more than 3000 years. {remedy}")
    return t.astype(np.int64)
