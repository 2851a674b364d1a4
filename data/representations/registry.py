"""Representations by name: `@register_representation("counts")` on a class, `build_representation("counts", 5)`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from registry import Registry, split_spec

from .base import Representation

REPRESENTATIONS: Registry[Representation] = Registry("representation")
register_representation = REPRESENTATIONS.register
list_representations = REPRESENTATIONS.names


def build_representation(what: str | Mapping[str, Any], num_steps: int) -> Representation:
    """`what`: a name, or a mapping of `name` and arguments: {"name": "counts", "clip": 10}."""
    return REPRESENTATIONS.build(what, num_steps)


def complete_spec(what: str | Mapping[str, Any]) -> dict[str, Any]:
    """`what` as a mapping that names every argument, those left out with the defaults that they have now."""
    name, options = split_spec("representation", what)
    parameters = inspect.signature(REPRESENTATIONS[name]).parameters.values()
    return {"name": name, **{p.name: p.default for p in parameters if p.default is not p.empty}, **options}
