"""Detect the coordinates of VOC boxes: pixels counted from 1, as in VOC, or continuous from 0, as from many tools."""

from __future__ import annotations

import numpy as np

CHOICES = ("auto", "from_1", "from_0")
_CLEAR = 10  # at least one box in this many has a fraction; VOC itself has a few fractions


def from_zero(corners: np.ndarray, choice: str) -> tuple[bool, tuple[str, str] | None]:
    """(whether `corners` [N, 4] are continuous from 0; (value, remedy) of the `Problem` that reports it, or None).

    Pixel numbers from 1 have no fractions and no values below 1: a dataset with both is continuous from 0.
    """
    if choice != "auto":
        return choice == "from_0", None
    finite = corners[np.isfinite(corners).all(1)]
    fractions, early = (finite % 1 != 0).any(1), ((finite[:, :2] >= 0) & (finite[:, :2] < 1)).any(1)
    if not early.any() or _CLEAR * fractions.sum() < len(finite):
        return False, None
    value = f"{int(early.sum())} of {len(finite)} boxes begin below pixel 1, {int(fractions.sum())} have fractions"
    return True, (value, "All are read as continuous from 0, not from pixel 1; data.args.coordinates=from_1 or from_0")
