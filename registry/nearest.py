"""Error texts for unknown names: the nearest known name, and all names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from .errors import UserError


def did_you_mean(name: object, known: Iterable[str], cutoff: float = 0.5) -> str:
    """ ", did you mean 'lif'?" if a name is near, else ""."""
    near = difflib.get_close_matches(str(name), list(known), 1, cutoff)
    return f", did you mean {near[0]!r}?" if near else ""


def none_of(what: str, name: object, known: Iterable[str]) -> str:
    """The message for a name not in `known`: `what` ("unknown neuron 'lfi'"), the nearest name, all names."""
    known = list(known)
    return f"{what}{did_you_mean(name, known) or '.'} There are {', '.join(known) or 'none'}"


def reject_unknown(given: Iterable[str], accepted: Iterable[str], owner: str) -> None:
    """UserError for the first argument that `owner` ("neuron 'lif'") does not take."""
    accepted = list(accepted)
    for key in given:
        if key not in accepted:
            near = did_you_mean(key, accepted) or "."
            takes = f"It takes {', '.join(accepted)}" if accepted else "It takes none"
            raise UserError(f"{owner} has no argument {key!r}{near} {takes}")
