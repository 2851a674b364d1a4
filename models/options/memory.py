"""memory=: a recurrent spiking cell on the finest map, or on several, between network and head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurons import neuron_factory

from ..detector import Detector
from ..memory import MemorySpec, build_memory
from .registry import register_option


@register_option(None)
def memory(model: Detector, value: MemorySpec | None, arguments: Mapping[str, Any]) -> None:
    """Name of a cell in `models.memory`, or a mapping with `name`, `levels` and arguments of the cell. Its inputs are
    spikes of the model's neuron."""
    assert value is not None
    model.memory = build_memory(value, model.network.channels, neuron_factory(arguments["neuron"]))
