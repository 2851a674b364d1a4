"""Parts of a training that its config may ask for, and the schedule of its learning rate."""

from __future__ import annotations

import torch
from omegaconf import DictConfig

from data import DetectionDataset
from models import Detector
from registry import UserError

from ..build import check_samples
from ..distill import Distillation, open_teacher, teacher_text
from ..multi_scale import MultiScale
from ..optim import Schedule
from .splits import Say, Splits


def start_distillation(
    cfg: DictConfig, model: Detector, splits: Splits, device: torch.device, say: Say
) -> tuple[Distillation | None, dict[str, str]]:
    """`train.distill`, and what a checkpoint says of the teacher; (None, {}) without it."""
    if cfg.train.distill is None:
        return None, {}
    prepared = splits.val.input.to_plain() if splits.val.input is not None else None
    run = open_teacher(cfg.train.distill, splits.train.class_names, splits.train.channels, prepared)
    distillation = Distillation(run.model, model, cfg.train.distill_weight)
    check_samples(run.model, splits.val)
    run.model.to(device)
    if cfg.train.channels_last:
        run.model.to(memory_format=torch.channels_last)
    teacher = teacher_text(run)
    say(f"distils from {run.checkpoint}: {teacher}")
    return distillation, {"teacher": teacher}


def start_multi_scale(cfg: DictConfig, model: Detector, train_set: DetectionDataset, say: Say) -> MultiScale | None:
    """`train.multi_scale`; None without it."""
    if cfg.train.multi_scale is None:
        return None
    if train_set.num_steps is not None:
        raise UserError("train.multi_scale: only images are resized, events keep the size of their input: set null")
    if cfg.train.compile:
        raise UserError("train.multi_scale: with train.compile=true every size would be compiled: set one of both")
    height, width = train_set[0].x.shape[-2:]
    sizes = MultiScale(cfg.train.multi_scale, (height, width), max(model.network.strides), cfg.seed)
    say(f"train.multi_scale: {sizes}")
    return sizes


def schedule(cfg: DictConfig, steps: int, epochs: int) -> Schedule:
    """Learning-rate schedule of `epochs` epochs with `steps` steps each."""
    return Schedule(
        cfg.optim.lr,
        cfg.optim.final_lr_factor,
        cfg.optim.momentum,
        total_steps=epochs * steps,
        warmup_steps=round(cfg.optim.warmup_epochs * steps),
        warmup_bias_lr=cfg.optim.warmup_bias_lr,
        warmup_momentum=cfg.optim.warmup_momentum,
        decay=cfg.optim.decay,
    )
