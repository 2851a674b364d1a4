"""The datasets that a training needs, of both splits, checked against each other and the config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omegaconf import DictConfig

from data import DetectionDataset, Problems, overview
from registry import UserError
from scoring.truth_check import check_truth

from .. import distributed
from ..build import build_dataset

Say = Callable[[str], object]


@dataclass(frozen=True)
class Splits:
    """train: augmented. val: scored while training."""

    train: DetectionDataset
    val: DetectionDataset


def read_splits(cfg: DictConfig, say: Say) -> Splits:
    splits = Splits(_dataset(cfg, cfg.data.train_split, say, augment=True), _dataset(cfg, cfg.data.val_split, say))
    for line in check_truth(cfg.eval.protocol, splits.val.ground_truth(), cfg.data.val_split):
        say(line)
    if splits.val.class_names != splits.train.class_names:
        raise UserError(f"classes differ: train has {splits.train.class_names}, validation {splits.val.class_names}")
    if cfg.train.bptt > 1 and splits.train.sequences is None:
        raise UserError(
            f"train.bptt = {cfg.train.bptt}: gradients flow from window to window only where recordings come in "
            "sequence. Set data.args.sampling=sequential, or train.bptt=1"
        )
    say(overview({cfg.data.train_split: splits.train, cfg.data.val_split: splits.val}))
    return splits


def _dataset(cfg: DictConfig, split: str, say: Say, augment: bool = False) -> DetectionDataset:
    problems = Problems(strict=cfg.data.strict)
    # Rank 0 first: a generated dataset is written once.
    for turn in range(2):
        if (turn == 0) == distributed.is_main():
            dataset = build_dataset(cfg, split, augment, problems=problems)
        distributed.barrier()
    if problems.items:
        say(f"{split}: {problems.summary()}")
    return dataset
