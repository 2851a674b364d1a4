"""Memories by name: `@MEMORIES.register("leaky")` on a cell, `build_memory("leaky", channels, neuron)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from registry import Registry, UserError
from registry.registry import split_spec

from .cell import Cell
from .levels import Memory

MemorySpec = str | Mapping[str, Any]

MEMORIES: Registry[Cell] = Registry("memory")


def build_memory(spec: MemorySpec, channels: Sequence[int], neuron: Callable[[], nn.Module]) -> Memory:
    """A memory for maps of these channels, finest first, from a name, or a mapping with `name`, arguments of the cell,
    and `levels`: how many maps have a cell, from the finest on. Default 1; None: all.

    neuron: that of the network, a new one per call. Where it does not spike, as in an ANN twin, the cells do not.
    """
    name, options = split_spec("memory", spec)
    levels = options.pop("levels", 1)
    if levels is not None and (not isinstance(levels, int) or not 1 <= levels <= len(channels)):
        raise UserError(f"levels = {levels!r}: the network has {len(channels)} maps. Give 1 to that, or null for all")
    spiking = getattr(neuron(), "spiking", True)
    cells = [MEMORIES.build({"name": name, **options}, c, spiking) for c in channels[:levels]]
    return Memory(cells, neuron)
