"""Representations by name: `@register_representation("counts")` on a class, `build_representation("counts", 5)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry import Registry

from .base import Representation

REPRESENTATIONS: Registry[Representation] = Registry("representation")
register_representation = REPRESENTATIONS.register
list_representations = REPRESENTATIONS.names


def build_representation(what: str | Mapping[str, Any], num_steps: int) -> Representation:
    """`what`: a name, or a mapping of `name` and arguments: {"name": "counts", "clip": 10}."""
    return REPRESENTATIONS.build(what, num_steps)
