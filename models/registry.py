"""Models by name: `@register_model` on a plain function named like the model, `create_model("ems_resnet18")`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from registry import Registry, checking, parameters

from .detector import Detector
from .options import apply_options, option_types

MODELS: Registry[Detector] = Registry("model")


Rule = Callable[[Mapping[str, Any]], Any]
DEPENDING: dict[str, Mapping[str, Rule]] = {}


def register_model(
    build: Callable[..., Detector] | None = None, *, depending: Mapping[str, Rule] | None = None
) -> Callable[..., Any]:
    """A decorator, with or without arguments.

    depending: {argument: function of all arguments -> its default}, for defaults that depend on other arguments. In the
    signature they are None, and the model's function gives None the same meaning.
    """
    if build is None:
        return partial(register_model, depending=depending)
    DEPENDING[build.__name__] = depending or {}
    return MODELS.register(build.__name__)(build)


def list_models(filter: str = "*") -> list[str]:
    """Names matching a shell pattern, for example `list_models("ems_*")`."""
    return MODELS.names(filter)


def model_defaults(name: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """{argument: default} of the model's function; the defaults are those of its paper.

    given: arguments that are set, on which the defaults of others may depend.
    """
    defaults = {key: p.default for key, p in inspect.signature(MODELS[name]).parameters.items()}
    arguments = defaults | dict(given or {})
    return defaults | {argument: rule(arguments) for argument, rule in DEPENDING.get(name, {}).items()}


def has_sampler(name: str) -> bool:
    """Whether the model `name` has the argument `sampler`: it takes windows of micro-bins, whatever its T is."""
    return name in MODELS and "sampler" in model_defaults(name)


def create_model(name: str, **kwargs: Any) -> Detector:
    """Build the detector `name`; arguments that are not given have the defaults of its paper.

    Every family takes num_classes, T, neuron (a name, a mapping with `name` and arguments, or a factory), head (the
    same), in_channels; further arguments are in its function's signature. Every model also has the options of
    `models.options`, unless its function has an argument of that name.
    """
    own = parameters(MODELS[name])
    options = {key: option for key, option in option_types().items() if key not in own}
    arguments = model_defaults(name) | kwargs
    with checking(f"model {name!r}", own | options, kwargs):
        model = MODELS[name](**{key: value for key, value in kwargs.items() if key not in options})
        apply_options(model, {key: kwargs[key] for key in options if key in kwargs}, arguments)
    if any(is_lazy(p) for p in model.parameters()):
        _show_one_step(model, arguments["in_channels"])
    return model


def _show_one_step(model: Detector, in_channels: int) -> None:
    """Zeros through the network, so that parameters with the size of their input (`per_channel` of neurons) get it
    before an optimizer, an average of the weights or DDP sees them."""
    side = 2 * max(model.network.strides)
    parameter = next(p for p in model.parameters() if not is_lazy(p))
    x = torch.zeros(1, 1, in_channels, side, side, device=parameter.device, dtype=parameter.dtype)
    training = model.training
    with torch.no_grad():
        model.eval().logits(x)
    model.train(training)
