"""Coordinates of VOC boxes: pixels counted from 1, as VOC does, or continuous from 0, as many tools write them."""

from __future__ import annotations

import numpy as np

CHOICES = ("auto", "from_1", "from_0")
_CLEAR = 10  # one box in so many has a fraction: VOC itself has a few


def from_zero(corners: np.ndarray, choice: str) -> tuple[bool, tuple[str, str] | None]:
    """(are `corners` [N, 4] continuous from 0?, value and remedy of the `Problem` that says so, None where nothing had
    to be decided).

    Numbers of pixels that begin at 1 have neither fractions nor a value below 1: a set that has both is continuous
    from 0.
    """
    if choice != "auto":
        return choice == "from_0", None
    finite = corners[np.isfinite(corners).all(1)]
    fractions, early = (finite % 1 != 0).any(1), ((finite[:, :2] >= 0) & (finite[:, :2] < 1)).any(1)
    if not early.any() or _CLEAR * fractions.sum() < len(finite):
        return False, None
    value = f"{int(early.sum())} of {len(finite)} boxes begin below pixel 1, {int(fractions.sum())} have fractions"
    return True, (value, "All are read as continuous from 0, not from pixel 1; data.args.coordinates=from_1 or from_0")
