"""Datasets by name: `@register_dataset("gen1")` on a class, `create_dataset("gen1", "train", root=...)`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .names import did_you_mean, reject_unknown

if TYPE_CHECKING:
    from .dataset import DetectionDataset

_DATASETS: dict[str, type[DetectionDataset]] = {}


def register_dataset(name: str) -> Callable[[type], type]:
    def add(cls: type) -> type:
        if name in _DATASETS:
            raise ValueError(f"a dataset named {name!r} is registered already: {_DATASETS[name].__qualname__}")
        _DATASETS[name] = cls
        return cls

    return add


def list_datasets() -> list[str]:
    return sorted(_DATASETS)


def create_dataset(name: str, split: str, *, generate: bool = True, **kwargs: Any) -> DetectionDataset:
    """Build the dataset `name`, `split` one of its splits; `kwargs` are its constructor's keyword arguments.

    generate: let a simulated dataset write its files first, where they are not there; without it nothing is written.
    """
    if name not in _DATASETS:
        raise ValueError(f"unknown dataset {name!r}{did_you_mean(name, _DATASETS) or '.'} Known: {list_datasets()}")
    cls = _DATASETS[name]
    reject_unknown(kwargs, _arguments(cls), f"dataset {name!r}")
    if generate:
        cls.generate(**kwargs)
    return cls(split, **kwargs)  # type: ignore[call-arg]


def _arguments(cls: type) -> list[str]:
    """Names that the constructor takes; where it hands `**kwargs` on, those of the class above as well."""
    names: list[str] = []
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]  # not self
            names += [p.name for p in parameters if p.kind == p.KEYWORD_ONLY]
            if all(p.kind != p.VAR_KEYWORD for p in parameters):
                break
    return list(dict.fromkeys(names))
