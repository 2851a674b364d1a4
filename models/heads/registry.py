"""Heads by name: `@register_head("anchor")` on a class, built for the levels of any network."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from neurons.names import did_you_mean, reject_unknown

HeadSpec = str | Mapping[str, Any] | Callable[..., nn.Module]

_HEADS: dict[str, type[nn.Module]] = {}


def register_head(name: str) -> Callable[[type], type]:
    def add(cls: type) -> type:
        if name in _HEADS:
            raise ValueError(f"a head named {name!r} is registered already: {_HEADS[name].__qualname__}")
        _HEADS[name] = cls
        return cls

    return add


def list_heads() -> list[str]:
    return sorted(_HEADS)


def build_head(
    spec: HeadSpec,
    channels: Sequence[int],
    strides: Sequence[int],
    num_classes: int,
    neuron: Callable[[], nn.Module] | None = None,
) -> nn.Module:
    """A head for feature maps with `channels[l]` at `strides[l]`, from a name, a mapping with `name` and arguments, or
    a factory called with (channels, strides, num_classes).

    neuron: the network's, a new one per call. A registered head that takes `neuron` gets it, unless the mapping names
    another.
    """
    if callable(spec):
        return spec(channels, strides, num_classes)
    kwargs: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = kwargs.pop("name", None)
    if name not in _HEADS:
        raise ValueError(f"unknown head {name!r}{did_you_mean(name, _HEADS) or '.'} Known: {list_heads()}")
    parameters = list(inspect.signature(_HEADS[name]).parameters)[3:]
    reject_unknown(kwargs, parameters, f"head {name!r}")
    if neuron is not None and "neuron" in parameters:
        kwargs.setdefault("neuron", neuron)
    return _HEADS[name](channels, strides, num_classes, **kwargs)
