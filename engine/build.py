"""The dataset and the detector that a config names, built; messages name the config's keys."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from data import DetectionDataset, create_dataset
from data.sample import collate
from models import Detector, create_model
from models.contracts import ChecksShape
from registry import UserError

from .config import config_to_plain, dataset_kwargs, model_kwargs
from .keys import naming_keys


def build_dataset(cfg: DictConfig, split: str, augment: bool = False, **options: Any) -> DetectionDataset:
    """`split` of the dataset of `data`, with the training's augmentation or without. UserError where its events come in
    other steps than the model's.

    options: of `create_dataset`, in place of the config's.
    """
    name, kwargs = dataset_kwargs(cfg, augment)
    with naming_keys(config_to_plain(cfg)):
        dataset = create_dataset(name, split, **kwargs | options)
    if dataset.num_steps not in (None, cfg.model.T):  # of a dataset that does not take the steps of its model
        raise UserError(
            f"model.T = {cfg.model.T}, but the events of dataset {name!r} come in {dataset.num_steps} steps: set "
            f"model.T={dataset.num_steps}"
        )
    return dataset


def build_model(cfg: DictConfig, num_classes: int, in_channels: int) -> tuple[Detector, dict[str, Any]]:
    """(the detector of `model`, the arguments of `create_model` that rebuild it)."""
    kwargs = model_kwargs(cfg, num_classes, in_channels)
    with naming_keys(config_to_plain(cfg)):
        return create_model(**kwargs), kwargs


def check_samples(model: Detector, dataset: DetectionDataset) -> None:
    """ValueError where the encoder of `model` does not take what `dataset` gives, such as micro-bins."""
    if isinstance(model.encoder, ChecksShape):
        model.encoder.check(tuple(collate([dataset[0]], dataset.scale).x.shape))
