"""What an evaluation of a checkpoint runs, and on what: detector, split, options in effect, checked before any work."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from data import DetectionDataset, Problems, eval_loader
from models import Detector
from registry import UserError
from scoring.evaluator import Evaluator

from .. import distributed
from ..build import build_dataset, fixed_steps
from ..config import evaluation_options
from ..curve_options import CurveOptions, curve_options
from ..evaluation_options import set_evaluation_options
from ..history import Lengths, history_sweep, parse_history
from ..runs.open import Run
from ..sweep import Sweep
from ..window_lengths import parse_windows, window_sweep
from .options import Options


@dataclass
class Subject:
    """
    run:       the checkpoint, opened
    cfg:       its config with the overrides
    model:     the detector to be run, on `device`
    dataset:   the split
    selection: T and the selection of detections that are in effect
    curve, history, windows: what is to be scored besides; empty: nothing
    parameters: of the network as trained
    """

    run: Run
    cfg: DictConfig
    device: torch.device
    model: Detector
    dataset: DetectionDataset
    selection: dict[str, Any]
    curve: CurveOptions
    history: Lengths
    windows: list[float]
    parameters: int
    allow_missing: bool

    def __post_init__(self) -> None:
        self.truth = self.dataset.ground_truth()

    @property
    def split(self) -> str:
        return self.cfg.data.test_split

    @property
    def protocol(self) -> str:
        return self.cfg.eval.protocol

    @property
    def precision(self) -> str:
        return self.cfg.train.precision

    def new_evaluator(self) -> Evaluator:
        return Evaluator(self.truth, self.dataset.expected_images, self.allow_missing)

    def with_window(self, length_ms: float) -> DetectionDataset:
        """The split with windows of another length and the same labels."""
        cfg = copy.deepcopy(self.cfg)
        cfg.data.args.window_ms = length_ms
        problems = Problems(strict=False)  # reported already, for the split itself
        dataset = build_dataset(cfg, self.split, generate=False, allow_missing=self.allow_missing, problems=problems)
        assert [i["id"] for i in dataset.ground_truth()["images"]] == [i["id"] for i in self.truth["images"]]
        return dataset

    def sweep(self) -> Sweep | None:
        """The variants of the split that are evaluated one after the other; None: the split as it is."""
        if self.history:
            return history_sweep(self.dataset, self.history)
        return window_sweep(self.dataset, self.windows, self.with_window) if self.windows else None

    def load(self, samples: DetectionDataset) -> DataLoader:
        """This rank's share of `samples`."""
        cfg = self.cfg
        return eval_loader(samples, cfg.eval.batch_size, cfg.data.workers, distributed.rank(), distributed.world_size())

    def first_input(self) -> torch.Tensor:
        """The first batch, the same on every rank, as the model takes it."""
        x, _ = next(iter(eval_loader(self.dataset, self.cfg.eval.batch_size))).to(self.device)
        return x


def prepare(run: Run, cfg: DictConfig, device: torch.device, asked: Options) -> Subject:
    """UserError for a split that the detector was not trained for, and for options that do not go together."""
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    model, converted = run.model.to(device), run.ann is not None
    dataset = dataset_of(cfg, cfg.data.test_split, asked.allow_missing)
    _check_same_kind(run, dataset, cfg.data.test_split)
    steps = fixed_steps(model, dataset.num_steps)
    selection = set_evaluation_options(model, steps, **evaluation_options(cfg))
    curve = curve_options(model, dataset, converted, asked.steps, asked.noise, asked.early_exit)
    if run.ann is not None:
        run.ann.to(device)
        set_evaluation_options(run.ann, steps, **evaluation_options(cfg))
    history, windows = parse_history(asked.history, dataset, converted), parse_windows(asked.windows, dataset)
    _check_one_evaluation(cfg, asked, curve)
    if windows and cfg.data.args.get("window_ms") != run.config["data"]["args"].get("window_ms"):
        raise UserError(f"data.args.window_ms = {cfg.data.args.window_ms}: add it to --windows {asked.windows} instead")
    parameters = sum(p.numel() for p in (run.ann or model).parameters())
    return Subject(
        run, cfg, device, model, dataset, selection, curve, history, windows, parameters, asked.allow_missing
    )


def dataset_of(cfg: DictConfig, split: str, allow_missing: bool) -> DetectionDataset:
    """The split, which must be there; a line says what is wrong with its labels."""
    problems = Problems(strict=cfg.data.strict)
    dataset = build_dataset(cfg, split, generate=False, allow_missing=allow_missing, problems=problems)
    if dataset.problems.items and distributed.is_main():
        print(f"{split}: {dataset.problems.summary()}")
    return dataset


def _check_same_kind(run: Run, dataset: DetectionDataset, split: str) -> None:
    if dataset.class_names != run.class_names:
        raise UserError(
            f"{run.checkpoint} was trained on the classes {run.class_names}, {split} has {dataset.class_names}"
        )
    channels = run.content["model_kwargs"].get("in_channels", dataset.channels)
    if channels != dataset.channels:
        raise UserError(
            f"{run.checkpoint} was trained on {channels} channels, {split} has {dataset.channels}: "
            "leave the representation as it was"
        )


def _check_one_evaluation(cfg: DictConfig, asked: Options, curve: CurveOptions) -> None:
    several = {"--history": asked.history, "--windows": asked.windows, "--steps": curve.steps}
    if len(given := [flag for flag, value in several.items() if value]) > 1:
        raise UserError(f"{' and '.join(given)} are evaluations of their own: leave one of them out")
    if curve.steps and (asked.binary or cfg.eval.T is not None):
        of_one_T = "--binary" if asked.binary else f"eval.T={cfg.eval.T}"
        remedy = "leave it out" if asked.binary else "leave it out, or add eval.T=null"
        raise UserError(f"{of_one_T} is for one T, and this evaluation has T = {curve.steps}: {remedy}")
