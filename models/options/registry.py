"""Options by name: `@register_option(default)` on a function named like the argument of `create_model`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from registry import parameters

from ..detector import Detector


class Option(NamedTuple):
    """`default`: the value without which the detector stays as its family builds it."""

    default: Any
    apply: Callable[[Detector, Any, Mapping[str, Any]], None]


OPTIONS: dict[str, Option] = {}


def register_option(default: Any) -> Callable[[Any], Any]:
    """A decorator for a function `(model, value, arguments) -> None` that replaces a part of `model`, its encoder,
    network or head, as `value` says. Not called for the default.

    arguments: all of the model's function, defaults included. The annotation of `value` is the type of the argument.
    The family has built the detector before, so that its weights are those without the option, for the same seed.
    """

    def add(function: Callable[[Detector, Any, Mapping[str, Any]], None]) -> Any:
        assert function.__name__ not in OPTIONS, f"an option {function.__name__!r} is registered already"
        OPTIONS[function.__name__] = Option(default, function)
        return function

    return add


def option_types() -> dict[str, tuple[Any, bool]]:
    """{name: (type, False)} of all options, as `registry.parameters` has them."""
    return {name: (list(parameters(option.apply).values())[1][0], False) for name, option in OPTIONS.items()}


def apply_options(model: Detector, given: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Apply the options {name: value} to `model`, in the order of their names.

    arguments: of the model's function, defaults included.
    """
    for name in sorted(given):
        if given[name] != OPTIONS[name].default:
            OPTIONS[name].apply(model, given[name], arguments)
