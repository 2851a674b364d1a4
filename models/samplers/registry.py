"""Samplers by name: `@SAMPLERS.register("arsnn")` on a class, `build_sampler("arsnn", in_channels=2)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from registry import Registry

from .base import Sampler

SamplerSpec = str | Mapping[str, Any] | Callable[[int], Sampler]

SAMPLERS: Registry[Sampler] = Registry("sampler")


def build_sampler(spec: SamplerSpec, in_channels: int) -> Sampler:
    """A sampler of micro-bins with `in_channels` channels, from a name, a mapping with `name` and arguments (those of
    `models.samplers.base.Sampler`), or a function of `in_channels`.

    It turns windows [Tl, B, Tm, C, H, W] into frames [Tl, out_steps, B, C, H, W], and has the attribute `out_steps`.
    """
    return SAMPLERS.build(spec, in_channels)
