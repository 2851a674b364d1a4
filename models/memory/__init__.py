"""Recurrent spiking cells on the maps between network and head. Modules here are imported automatically."""

from registry import import_modules

from .levels import Memory
from .registry import MEMORIES, MemorySpec, build_memory

__all__ = ["MEMORIES", "Memory", "MemorySpec", "build_memory"]

import_modules(__name__, __path__)
