"""Detection heads, usable with every network: prediction layers, loss and decoding of each in one file."""

from registry import import_modules

from .registry import HeadSpec, build_head, list_heads, register_head

__all__ = ["HeadSpec", "build_head", "list_heads", "register_head"]

import_modules(__name__, __path__)
