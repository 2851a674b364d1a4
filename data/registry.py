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
    """Build a split of the dataset `name`; `kwargs` are its constructor's keyword arguments.

    generate: simulated datasets first write their files, if absent; False: nothing is written
    """
    cls: Any = DATASETS[name]
    with checking(f"dataset {name!r}", parameters(cls, 1), kwargs):
        if generate:
            cls.generate(**kwargs)
        return cls(split, **kwargs)


def dataset_arguments(name: str) -> list[str]:
    """Names of the arguments of `create_dataset` for the dataset `name`, without its split."""
    return DATASETS.arguments(name, 1)
