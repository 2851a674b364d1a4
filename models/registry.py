"""Models by name: `@register_model` on a plain function named like the model, `create_model("ems_resnet18")`."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable
from typing import Any

from neurons.names import did_you_mean, reject_unknown

from .detector import Detector

_MODELS: dict[str, Callable[..., Detector]] = {}


def register_model(build: Callable[..., Detector]) -> Callable[..., Detector]:
    name = build.__name__
    if name in _MODELS:
        raise ValueError(f"a model named {name!r} is registered already, in {_MODELS[name].__module__}")
    _MODELS[name] = build
    return build


def list_models(filter: str = "*") -> list[str]:
    """Names matching a shell pattern, for example `list_models("ems_*")`."""
    return fnmatch.filter(sorted(_MODELS), filter)


def model_defaults(name: str) -> dict[str, Any]:
    """Every argument of the model's function with its default: the paper's."""
    return {key: p.default for key, p in inspect.signature(_function(name)).parameters.items()}


def create_model(name: str, **kwargs: Any) -> Detector:
    """Build the detector `name`; what is not given is the paper's.

    Every family takes num_classes, T, neuron (a name, a mapping with `name` and arguments, or a factory), head (the
    same), in_channels; its own further arguments stand in its function's signature.
    """
    build = _function(name)
    reject_unknown(kwargs, list(inspect.signature(build).parameters), f"model {name!r}")
    return build(**kwargs)


def _function(name: str) -> Callable[..., Detector]:
    if name not in _MODELS:
        raise ValueError(f"unknown model {name!r}{did_you_mean(name, _MODELS) or '.'} Known: {list_models()}")
    return _MODELS[name]
