"""Datasets by name: `@register_dataset("gen1")` on a class, `create_dataset("gen1", "train", root=...)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry import Registry, checking, parameters

if TYPE_CHECKING:
    from .dataset import DetectionDataset

DATASETS: Registry[DetectionDataset] = Registry("dataset")
register_dataset = DATASETS.register
list_datasets = DATASETS.names


def create_dataset(name: str, split: str, *, generate: bool = True, **kwargs: Any) -> DetectionDataset:
    """Build the dataset `name`, `split` one of its splits; `kwargs` are its constructor's keyword arguments.

    generate: let a simulated dataset write its files first, where they are not there; without it nothing is written.
    """
    cls: Any = DATASETS[name]
    with checking(f"dataset {name!r}", parameters(cls, 1), kwargs):
        if generate:
            cls.generate(**kwargs)
        return cls(split, **kwargs)


def dataset_arguments(name: str) -> list[str]:
    """Arguments that `create_dataset` takes for the dataset `name` beside its split."""
    return DATASETS.arguments(name, 1)
