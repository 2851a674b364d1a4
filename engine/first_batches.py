"""Fit what depends on the data to the first batches of a training, on all processes alike."""

from __future__ import annotations

from itertools import islice

import torch
from omegaconf import DictConfig

from data import DetectionDataset, train_loader
from models import Detector
from models.fit_neurons import Target, fit_neurons
from registry import UserError

from . import distributed
from .config import config_to_plain


def fit_to_first_batches(
    cfg: DictConfig, model: Detector, dataset: DetectionDataset, device: torch.device
) -> list[str]:
    """`models.fit_neurons` on the first `train.fit_neurons` batches of process 0, which all processes get. Returns its
    lines. The order and augmentation of the training that follows do not change."""
    lines: list[str] = []
    if distributed.is_main():
        ranks = distributed.world_size()
        loader = train_loader(dataset, cfg.train.batch_size, cfg.seed, 0, 0, ranks, cfg.train.epochs)
        batches = [batch.to(device)[0] for batch in islice(loader, cfg.train.fit_neurons)]
        lines = fit_neurons(model, batches, fit_target(cfg))
    distributed.barrier()  # for as long as process 0 takes
    distributed.broadcast_parameters(model)
    return lines


def fit_target(cfg: DictConfig) -> Target:
    """`train.fit_target`; UserError for another value than it can have."""
    try:
        return Target.parse(config_to_plain(cfg)["train"]["fit_target"])
    except UserError as error:
        raise UserError(f"train.{error}") from error
