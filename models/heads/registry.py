"""Heads by name: `@register_head("anchor")` on a class, built for the levels of any network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from registry import Registry
from registry.registry import split_spec

from ..contracts import Head

HeadSpec = str | Mapping[str, Any] | Callable[..., Head]

HEADS: Registry[Head] = Registry("head")
register_head = HEADS.register
list_heads = HEADS.names


def build_head(
    spec: HeadSpec,
    channels: Sequence[int],
    strides: Sequence[int],
    num_classes: int,
    neuron: Callable[[], nn.Module] | None = None,
) -> Head:
    """A head for feature maps with `channels[l]` at `strides[l]`, from a name, a mapping with `name` and arguments, or
    a factory called with (channels, strides, num_classes).

    neuron: the network's, a new one per call. A registered head that takes `neuron` gets it, unless the mapping names
    another.
    """
    levels = (channels, strides, num_classes)
    if callable(spec):
        return spec(*levels)
    name, options = split_spec("head", spec)
    if neuron is not None and "neuron" in HEADS.arguments(name, len(levels)):
        options.setdefault("neuron", neuron)
    return HEADS.build({"name": name, **options}, *levels)
