"""Error messages in config keys: "unknown sampling" of a dataset becomes "data.args.sampling: unknown sampling"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from data import dataset_arguments, list_datasets
from models import has_sampler

FROM_MODEL = {"num_steps": "model.T"}  # dataset arguments decided by the model, unless it has a sampler
KINDS = {"data.name": "dataset", "model.name": "model"}  # kinds of part, where not the last word of the key


def from_model(model: str) -> dict[str, str]:
    """{dataset argument: config key} of what the model of that name decides. A sampler makes any number of steps."""
    return {} if has_sampler(model) else FROM_MODEL


@contextmanager
def naming_keys(plain: Mapping[str, Any]) -> Iterator[None]:
    """Context around building from the config `plain`: the message of a ValueError begins with the config key."""
    try:
        yield
    except ValueError as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (in_keys(error.args[0], plain),)
        raise


def in_keys(message: str, plain: Mapping[str, Any]) -> str:
    """`message` about an argument, with the argument's config key in front.

    "sampling = 'foo'. There are ..." -> "data.args.sampling = 'foo'. There are ..."
    "neuron 'lif' has no argument 'ta', ..." -> "model.neuron.ta: neuron 'lif' has no argument 'ta', ..."

    The key is that of the first argument which the message names with its value (`name = value`) or calls an argument,
    or whose value it calls unknown. A message that names none stays as it is. Arguments of the dataset in backticks,
    `root`, become keys, `data.root`.
    """
    found = []
    for key, name, value in _arguments(plain):
        values = "|".join({re.escape(repr(value)), re.escape(str(value))})
        kind = KINDS.get(key) or (key.split(".")[-2] if name == "name" else name)
        word = re.escape(name)
        match = (
            re.match(rf"{word} = ", message)
            or re.search(rf"(?<![\w.]){word} = ({values})(?!\w)", message)
            or re.search(rf"argument '{word}'", message)
            or re.match(rf"unknown {re.escape(kind)} ({values})", message)
        )
        if match:
            found.append((match.start(), key, name))
    known = dataset_arguments(plain["data"]["name"]) if plain["data"]["name"] in list_datasets() else []
    said = re.sub(r"`(\w+)`", lambda m: f"`{_key(m[1], plain)}`" if m[1] in known else m[0], message)
    if not found:
        return said
    _, key, name = min(found)
    return f"{key}{said.removeprefix(name)}" if said.startswith(f"{name} = ") else f"{key}: {said}"


def _arguments(plain: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(config key, argument, value) of all arguments of the dataset and the model."""
    for section in ("data", "model"):
        yield from _below(plain[section], section)
    for name, key in from_model(plain["model"]["name"]).items():
        section, _, part = key.partition(".")
        yield key, name, plain[section][part]
    yield "eval.rectangular", "rectangular", plain["eval"]["rectangular"]


def _below(node: Mapping[str, Any], key: str) -> Iterator[tuple[str, str, Any]]:
    for name, value in node.items():
        yield f"{key}.{name}", name, value
        if isinstance(value, Mapping):
            yield from _below(value, f"{key}.{name}")


def _key(argument: str, plain: Mapping[str, Any]) -> str:
    """The config key of a dataset argument, whether it is set or not."""
    set_elsewhere = from_model(plain["model"]["name"]) | {"rectangular": "eval.rectangular"}
    return set_elsewhere.get(argument) or ("data." if argument in plain["data"] else "data.args.") + argument
