"""Parse numbers of labels, also those written as strings ("64", "996.0000") or integers as floats (64.0)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import cast

import numpy as np

_NUMBER = re.compile(r"\s*[+-]?(\d{1,300}(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\s*", re.ASCII)


class LabelNumbers:
    """Parses columns of values. `odd` counts, by name of the column, numbers in an unusual form.

    Values that are no number, such as True, None and "abc", give None.
    """

    def __init__(self) -> None:
        self.odd: Counter[str] = Counter()

    def whole(self, values: Sequence[object], column: str) -> list[int | None]:
        """Each value as an int; None where it is no whole number."""
        if {int}.issuperset(map(type, values)):
            return list(values)  # type: ignore[arg-type]
        return [self._whole(value, column) for value in values]

    def real(self, value: object, column: str) -> float | None:
        if type(value) is str and _NUMBER.fullmatch(value):
            self.odd[column] += 1
            return float(value)
        try:
            return float(value) if type(value) in (int, float) else None  # type: ignore[arg-type]
        except OverflowError:
            return None

    def rows(self, values: Sequence[object], length: int, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Lists of `length` numbers -> (float64 [N, length], bool [N] which values are such lists).

        NaN and Infinity of json are numbers here.
        """
        if {list}.issuperset(map(type, values)):
            lists = cast(Sequence[list], values)
            if {length}.issuperset(map(len, lists)) and {int, float}.issuperset(map(type, chain.from_iterable(lists))):
                try:
                    return np.array(lists, np.float64).reshape(-1, length), np.ones(len(lists), bool)
                except OverflowError:
                    pass
        table, good = np.zeros((len(values), length)), np.zeros(len(values), bool)
        for i, row in enumerate(values):
            numbers = [self.real(value, column) for value in row] if isinstance(row, list) else []
            if len(numbers) == length and None not in numbers:
                table[i], good[i] = numbers, True
        return table, good

    def _whole(self, value: object, column: str) -> int | None:
        if type(value) is int:
            return value
        number = float(value) if type(value) is float or (type(value) is str and _NUMBER.fullmatch(value)) else 0.5
        if not number.is_integer():  # also false for NaN and the infinities
            return None
        self.odd[column] += 1
        # Not through a float, which is exact only up to 2**53.
        return int(value) if type(value) is str and value.strip().lstrip("+-").isdigit() else int(number)
