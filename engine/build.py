"""Build the dataset and the detector of a config. Error messages name config keys."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from data import DetectionDataset, create_dataset
from data.sample import collate
from models import Detector, create_model, has_sampler
from models.contracts import ChecksShape, MakesFrames
from registry import UserError

from .config import config_to_plain, dataset_kwargs, model_kwargs
from .keys import naming_keys


def build_dataset(cfg: DictConfig, split: str, augment: bool = False, **options: Any) -> DetectionDataset:
    """The dataset of one split, with `data.augment` if `augment` is set.

    options: arguments of `create_dataset` that replace those of the config.
    UserError if the dataset's number of event frames is not model.T; of a sampler, `check_samples` finds that.
    """
    name, kwargs = dataset_kwargs(cfg, augment)
    with naming_keys(config_to_plain(cfg)):
        dataset = create_dataset(name, split, **kwargs | options)
    if dataset.num_steps not in (None, cfg.model.T) and not has_sampler(cfg.model.name):
        # of datasets without the argument `num_steps`
        raise UserError(
            f"model.T = {cfg.model.T}, but the events of dataset {name!r} come in {dataset.num_steps} steps: set "
            f"model.T={dataset.num_steps}"
        )
    return dataset


def build_model(cfg: DictConfig, num_classes: int, in_channels: int) -> tuple[Detector, dict[str, Any]]:
    """Build the detector. Returns it and the plain arguments of `create_model` that rebuild it."""
    kwargs = model_kwargs(cfg, num_classes, in_channels)
    with naming_keys(config_to_plain(cfg)):
        return create_model(**kwargs), kwargs


def check_samples(model: Detector, dataset: DetectionDataset) -> list[str]:
    """UserError if the encoder of `model` does not accept the samples of `dataset`, such as micro-bins. Returns lines
    for the user: the frames that a sampler makes of a sample."""
    shape = tuple(collate([dataset[0]], dataset.scale).x.shape)
    if isinstance(model.encoder, ChecksShape):
        model.encoder.check(shape)
    return [model.encoder.describe(shape)] if isinstance(model.encoder, MakesFrames) else []


def fixed_steps(model: Detector, num_steps: int | None) -> int | None:
    """T that samples of a dataset or an input with `num_steps` (None: images) have for `model`; None where any T can be
    set: of images, and of one frame."""
    return model.encoder.fixed_steps(num_steps or 1) if isinstance(model.encoder, MakesFrames) else num_steps
