"""Parts of a detector by name patterns, in words that all families share: `backbone`, `neck.*`, `head`."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from registry import UserError, did_you_mean


def matching_parameters(model: nn.Module, pattern: str, key: str) -> list[str]:
    """Names of the parameters that `pattern` selects, in the order of the model: see `matching`."""
    return matching(model, [name for name, _ in model.named_parameters()], pattern, key, "parameter")


def matching(model: nn.Module, names: list[str], pattern: str, key: str, what: str) -> list[str]:
    """Those of `names` of parameters or modules that `pattern` selects.

    A pattern of `fnmatch`, whose * also stands for dots, selects a name if it matches it or the name of a module
    around it: `head`, `network.stages.0`, `*.bn.weight`. Within `network`, `backbone` and `neck` may stand in
    the place of that word: `backbone`, `backbone.stem`, `neck.*`.

    key: the config key of the pattern. what: a word for one of them. UserError with near names if it selects nothing.
    """
    every = {name: list(_paths(model, name)) for name in names}
    found = [name for name, paths in every.items() if any(fnmatchcase(path, pattern) for path in paths)]
    if not found:
        paths = dict.fromkeys(path for paths in every.values() for path in paths)
        top = [path for path in paths if path.count(".") == 1 and not path.startswith("network.")]
        near = did_you_mean(pattern.rstrip("*."), paths) or "."
        raise UserError(f"{key}: no {what} matches {pattern!r}{near} There are {', '.join(top or paths)}")
    return found


def _paths(model: nn.Module, name: str) -> Iterator[str]:
    """`name` and the modules around it, outermost first; of a network also as parts of its backbone or neck."""
    first, *rest = name.split(".")
    for start in (first, *([_part(model.network, rest[0])] if first == "network" else [])):
        for n in range(len(rest) + 1):
            yield ".".join([start, *rest[:n]])


def _part(network: Any, child: str) -> str:
    in_neck = child.startswith("neck_") or child in getattr(network, "neck", ())
    return "neck" if in_neck else "backbone"
