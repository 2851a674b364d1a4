"""Representations by name: `@register_representation("counts")` on a class, `build_representation("counts", 5)`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..names import did_you_mean, reject_unknown
from .base import Representation

_REPRESENTATIONS: dict[str, type[Representation]] = {}


def register_representation(name: str) -> Callable[[type], type]:
    def add(cls: type) -> type:
        if name in _REPRESENTATIONS:
            raise ValueError(f"a representation named {name!r} exists already: {_REPRESENTATIONS[name].__qualname__}")
        _REPRESENTATIONS[name] = cls
        return cls

    return add


def list_representations() -> list[str]:
    return sorted(_REPRESENTATIONS)


def build_representation(what: str | Mapping[str, Any], num_steps: int) -> Representation:
    """`what`: a name, or a mapping of `name` and arguments: {"name": "counts", "clip": 10}."""
    options = {"name": what} if isinstance(what, str) else dict(what)
    name = options.pop("name", None)
    if name not in _REPRESENTATIONS:
        near = did_you_mean(name, _REPRESENTATIONS) or "."
        raise ValueError(f"representation {name!r}{near} There are {', '.join(list_representations())}")
    cls = _REPRESENTATIONS[name]
    known = [argument for argument in inspect.signature(cls).parameters if argument != "num_steps"]
    reject_unknown(options, known, f"representation {name!r}")
    return cls(num_steps, **options)
