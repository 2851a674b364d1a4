"""Neurons by name: `@register_neuron("lif")` on a class, `build_neuron("lif", tau=2.0)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from registry import Registry
from registry.registry import split_spec

NeuronSpec = str | Mapping[str, Any] | Callable[[], nn.Module]

NEURONS: Registry[nn.Module] = Registry("neuron")
register_neuron = NEURONS.register
list_neurons = NEURONS.names


def build_neuron(name: str, **kwargs: Any) -> nn.Module:
    """A new neuron module, x_seq [T, ...] -> y_seq [T, ...]; without arguments, the published one of that name."""
    return NEURONS.build(name, **kwargs)


def neuron_factory(spec: NeuronSpec) -> Callable[[], nn.Module]:
    """What a network needs, one new neuron per call, from a name, a mapping with `name` and arguments, or a factory.

    One neuron is built here and discarded, so that a wrong spec fails at once.
    """
    if callable(spec):
        factory = spec
    else:
        name, kwargs = split_spec("neuron", spec)
        factory = lambda: NEURONS.build(name, **kwargs)  # noqa: E731
    factory()
    return factory
