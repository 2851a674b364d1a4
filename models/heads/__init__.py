"""Detection heads: prediction layers, loss and decode of each in one file; usable with every network."""

import importlib
import pkgutil

from .registry import HeadSpec, build_head, list_heads, register_head

__all__ = ["HeadSpec", "build_head", "list_heads", "register_head"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
