"""Wrong names answered with the nearest right one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str], cutoff: float = 0.5) -> str:
    """ ", did you mean 'lif'?" where something is near, else nothing."""
    near = difflib.get_close_matches(str(name), list(known), 1, cutoff)
    return f", did you mean {near[0]!r}?" if near else ""


def reject_unknown(given: Iterable[str], accepted: list[str], owner: str) -> None:
    """ValueError for the first argument that `owner` ("neuron 'lif'") does not take."""
    for key in given:
        if key not in accepted:
            near = did_you_mean(key, accepted) or "."
            raise ValueError(f"{owner} has no argument {key!r}{near} It takes {accepted}")
