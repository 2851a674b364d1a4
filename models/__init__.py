"""Spiking detectors and their ANN twins. Every file here that registers a model is found by itself."""

import importlib
import pkgutil

from .detector import Detector
from .published import LoadReport, load_published_weights, to_published_state_dict
from .registry import create_model, list_models, model_defaults, register_model

__all__ = [
    "Detector",
    "LoadReport",
    "create_model",
    "list_models",
    "load_published_weights",
    "model_defaults",
    "register_model",
    "to_published_state_dict",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
