"""Models by name: `@register_model` on a plain function named like the model, `create_model("ems_resnet18")`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from registry import Registry

from .detector import Detector

MODELS: Registry[Detector] = Registry("model")


def register_model(build: Callable[..., Detector]) -> Callable[..., Detector]:
    return MODELS.register(build.__name__)(build)


def list_models(filter: str = "*") -> list[str]:
    """Names matching a shell pattern, for example `list_models("ems_*")`."""
    return MODELS.names(filter)


def model_defaults(name: str) -> dict[str, Any]:
    """{argument: default} of the model's function; the defaults are those of its paper."""
    return {key: p.default for key, p in inspect.signature(MODELS[name]).parameters.items()}


def create_model(name: str, **kwargs: Any) -> Detector:
    """Build the detector `name`; arguments that are not given have the defaults of its paper.

    Every family takes num_classes, T, neuron (a name, a mapping with `name` and arguments, or a factory), head (the
    same), in_channels; further arguments are in its function's signature.
    """
    return MODELS.build(name, **kwargs)
