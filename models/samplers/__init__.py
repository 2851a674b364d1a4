"""Learned samplers of events: micro-bins to event frames (EAS-SNN). Modules here are imported automatically."""

from registry import import_modules

from .encoder import SamplerEncoder
from .registry import SAMPLERS, SamplerSpec, build_sampler

__all__ = ["SAMPLERS", "SamplerEncoder", "SamplerSpec", "build_sampler"]

import_modules(__name__, __path__)
