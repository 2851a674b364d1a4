"""Spiking detectors and their ANN twins. Modules in this package are imported automatically."""

from registry import import_modules

from .checkpoints import load_detector
from .detector import Detector
from .encoders import DirectEncoder
from .published import LoadReport, load_published_weights, to_published_state_dict
from .registry import create_model, has_sampler, list_models, model_defaults, register_model

__all__ = [
    "Detector",
    "DirectEncoder",
    "LoadReport",
    "create_model",
    "has_sampler",
    "list_models",
    "load_detector",
    "load_published_weights",
    "model_defaults",
    "register_model",
    "to_published_state_dict",
]

import_modules(__name__, __path__)
