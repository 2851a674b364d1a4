"""Neurons by name: `@register_neuron("lif")` on a class, `build_neuron("lif", tau=2.0)`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from .names import did_you_mean, reject_unknown

NeuronSpec = str | Mapping[str, Any] | Callable[[], nn.Module]

_NEURONS: dict[str, type[nn.Module]] = {}


def register_neuron(name: str) -> Callable[[type], type]:
    def add(cls: type) -> type:
        if name in _NEURONS:
            raise ValueError(f"a neuron named {name!r} is registered already: {_NEURONS[name].__qualname__}")
        _NEURONS[name] = cls
        return cls

    return add


def list_neurons() -> list[str]:
    return sorted(_NEURONS)


def build_neuron(name: str, **kwargs: Any) -> nn.Module:
    """A new neuron module, x_seq [T, ...] -> y_seq [T, ...]; without arguments, the published one of that name."""
    if name not in _NEURONS:
        raise ValueError(f"unknown neuron {name!r}{did_you_mean(name, _NEURONS) or '.'} Known: {list_neurons()}")
    cls = _NEURONS[name]
    reject_unknown(kwargs, list(inspect.signature(cls).parameters), f"neuron {name!r}")
    return cls(**kwargs)


def neuron_factory(spec: NeuronSpec) -> Callable[[], nn.Module]:
    """What a network needs, one new neuron per call, from a name, a mapping with `name` and arguments, or a factory.

    The first neuron is built here and thrown away, so that a bad spec fails at once.
    """
    if isinstance(spec, str):
        factory: Callable[[], nn.Module] = lambda: build_neuron(spec)  # noqa: E731
    elif isinstance(spec, Mapping):
        if "name" not in spec:
            raise ValueError(f"a neuron given as a mapping needs the key 'name', got {dict(spec)}")
        kwargs = {k: v for k, v in spec.items() if k != "name"}
        factory = lambda: build_neuron(spec["name"], **kwargs)  # noqa: E731
    elif callable(spec):
        factory = spec
    else:
        raise ValueError(f"neuron must be a name, a mapping or a factory, got {spec!r}")
    factory()
    return factory
