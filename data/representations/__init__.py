"""Event representations: events of a window -> array [T, C, H, W]. Modules here are imported automatically."""

from registry import import_modules

from .base import Representation
from .registry import build_representation, complete_spec, list_representations, register_representation

__all__ = ["Representation", "build_representation", "complete_spec", "list_representations", "register_representation"]

import_modules(__name__, __path__)
