"""The detector that a training starts with: weights, frozen parts, anchors, values that change, fitted BatchNorms."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig

from data import DetectionDataset
from models import Detector
from models.adjustable import set_values
from models.contracts import FitsAnchors
from registry import UserError

from ..anneal import Anneal
from ..build import build_model, check_samples, fixed_steps
from ..config import config_to_plain
from ..first_batches import fit_to_first_batches
from ..freeze import freeze
from ..runs.checkpoint import init_from
from ..sync_batchnorm import sync_batchnorm
from .splits import Say, Splits


def build_network(cfg: DictConfig, splits: Splits, resumes: bool, say: Say) -> tuple[Detector, dict[str, Any]]:
    """The detector on the CPU, and the plain arguments of `create_model` that rebuild it.

    resumes: weights and anchors come from a checkpoint afterwards.
    """
    model, kwargs = build_model(cfg, len(splits.train.class_names), splits.train.channels)
    for line in check_samples(model, splits.val):
        say(line)
    if cfg.train.init_from and not resumes:
        say(init_from(model, cfg.train.init_from, splits.train.class_names))
    if cfg.train.freeze:
        say(freeze(model, cfg.train.freeze))
        if cfg.train.init_from is None:
            say("warning: train.init_from is not set, so the frozen weights are random ones")
    trains_head = any(p.requires_grad for name, p in model.named_parameters() if name.startswith("head."))
    if cfg.train.fit_anchors and not resumes and isinstance(model.head, FitsAnchors) and trains_head:
        say(model.head.fit_anchors(splits.train.box_sizes()))
    return model, kwargs


def start_anneal(cfg: DictConfig, model: Detector, train_set: DetectionDataset) -> Anneal | None:
    """`train.anneal`, with its first values set; None without it."""
    if not cfg.train.anneal:
        return None
    if "T" in cfg.train.anneal and (cfg.eval.T is not None or fixed_steps(model, train_set.num_steps) is not None):
        raise UserError("train.anneal.T: " + ("leave out eval.T" if cfg.eval.T else "only images can have any T"))
    anneal = Anneal(config_to_plain(cfg.train.anneal), cfg.train.anneal_until, cfg.train.epochs, model)
    set_values(model, anneal.values(0))
    return anneal


def prepare_network(
    cfg: DictConfig, model: Detector, train_set: DetectionDataset, resumes: bool, device: torch.device, say: Say
) -> None:
    """Fit the BatchNorms of `model`, on `device`, to the first batches, share their statistics among processes, and
    set the memory layout, in place, as the config says."""
    if cfg.train.fit_neurons and not resumes:
        for line in fit_to_first_batches(cfg, model, train_set, device):
            say(line)
    if cfg.train.sync_batchnorm:
        sync_batchnorm(model)
    if cfg.train.channels_last:
        model.to(memory_format=torch.channels_last)
