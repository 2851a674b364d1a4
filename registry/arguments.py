"""Arguments of a registered part: their names and types, and the check of given ones."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from os import PathLike
from types import NoneType, UnionType
from typing import Any

from .errors import UserError
from .nearest import reject_unknown

PLAIN = (str, int, float, list, tuple, dict, NoneType)  # types of config values; values of other types are not checked
WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
WORDS |= {Mapping: "a mapping", dict: "a mapping", Callable: "a function"}


@lru_cache(maxsize=1024)
def parameters(part: Callable[..., Any], given: int = 0) -> dict[str, tuple[Any, bool]]:
    """{name: (type, whether it is required)} of the arguments of `part` after the first `given` positional ones.
    A class with `**kwargs` also has the keyword-only arguments of its base classes.

    The type is the annotation; without one it is that of a default that is a number, else Any.
    """
    if not inspect.isclass(part):
        return dict(list(_of(part).items())[given:])
    found: dict[str, tuple[Any, bool]] = {}
    with_init = [cls for cls in part.__mro__ if "__init__" in vars(cls)]
    for cls in with_init:
        init = vars(cls)["__init__"]
        kinds = inspect.signature(init).parameters
        own = _of(init)
        by_position = [name for name in own if kinds[name].kind == inspect.Parameter.POSITIONAL_OR_KEYWORD]
        for name, (hint, required) in own.items():
            if cls is with_init[0] and name not in by_position[: 1 + given]:  # not self
                found.setdefault(name, (hint, required))
            elif kinds[name].kind == inspect.Parameter.KEYWORD_ONLY:
                found.setdefault(name, (hint, False))  # a subclass may set it
        if all(parameter.kind != inspect.Parameter.VAR_KEYWORD for parameter in kinds.values()):
            break
    return found


@contextmanager
def checking(owner: str, takes: Mapping[str, tuple[Any, bool]], options: Mapping[str, Any]) -> Iterator[None]:
    """Context around the call of a part with the named arguments `options`: UserError, beginning with `owner` ("neuron
    'lif'"), for an unknown argument, a missing one, or one whose type differs from its annotation.

    The part's own errors about a value come first, as they are more specific. Only plain values are type-checked.
    """
    reject_unknown(options, takes, owner)
    for name, (_, required) in takes.items():
        if required and name not in options:
            raise UserError(f"{owner} needs the argument {name!r}, which has no default")
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        _check_types(owner, takes, options, error)
        raise
    _check_types(owner, takes, options)


def _of(function: Callable[..., Any]) -> dict[str, tuple[Any, bool]]:
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a name that only type checkers import
        hints = {}
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        default = parameter.default
        number = isinstance(default, int | float) and not isinstance(default, bool)
        hint = hints.get(name, float if number and parameter.annotation is inspect.Parameter.empty else Any)
        found[name] = hint, default is inspect.Parameter.empty
    return found


def _check_types(
    owner: str, takes: Mapping[str, tuple[Any, bool]], options: Mapping[str, Any], cause: Exception | None = None
) -> None:
    for name, value in options.items():
        hint = takes[name][0]
        if not _fits(value, hint):
            raise UserError(f"{owner}: {name} = {value!r}: give {_words(hint)}") from cause


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of the type `hint`; True for types that are not known here."""
    if not isinstance(value, PLAIN) or hint is Any:
        return True
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return any(_fits(value, option) for option in inner)
    if hint is NoneType:
        return value is None
    if hint is bool:
        return value in (0, 1) or (isinstance(value, str) and value.lower() in ("true", "false", "yes", "no"))
    if hint in (int, float):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return hint is float or float(value).is_integer()
    if hint is str:
        return isinstance(value, str)
    if origin is typing.Literal:
        return value in inner
    if (kind := origin or hint) in (Sequence, list, tuple):
        if not isinstance(value, list | tuple):
            return False
        return kind is tuple or not inner or inner[0] is str or all(_fits(item, inner[0]) for item in value)
    if kind in (Mapping, dict):
        return isinstance(value, dict)
    if kind is Callable:
        return False
    if isinstance(kind, type) and issubclass(kind, PathLike):
        return isinstance(value, str)
    return not isinstance(kind, type) or isinstance(value, kind)


def _words(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return " or ".join(dict.fromkeys(_words(option) for option in inner))
    if origin is typing.Literal:
        return " or ".join(map(repr, inner))
    kind = origin or hint
    if kind in (Sequence, list, tuple):
        items = _words(inner[0]) if inner else ""
        several = items.removeprefix("a ").replace("list", "lists").replace("number", "numbers").replace("ss", "s")
        return f"a list of {several}" if "number" in items else "a list"
    if isinstance(kind, type) and issubclass(kind, PathLike):
        return "a path"
    return WORDS.get(kind) or f"a {getattr(kind, '__name__', kind)}"
