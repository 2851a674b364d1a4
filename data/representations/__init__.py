"""Events -> what a network takes: one file per form. Every file here that registers one is found by itself."""

import importlib
import pkgutil

from .base import Representation
from .registry import build_representation, list_representations, register_representation

__all__ = ["Representation", "build_representation", "list_representations", "register_representation"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
