"""What is timed: a model's name, a config or a checkpoint, with `key=value` as train.py takes them, and its inputs."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

from data import train_loader
from data.sample import Batch, Placement
from data.type_checks import height_width
from engine.build import build_dataset, build_model
from engine.config import BASE, apply_overrides, config_from_plain, config_to_plain, load_config
from engine.evaluation_options import set_evaluation_options
from engine.runs.open import open_run
from models import Detector, model_defaults
from models.contracts import MakesFrames
from registry import UserError

OF_A_NAME = ["train.batch_size=2", "data.size=320", "optim.warmup_epochs=0"]  # unless they are given
BINS = 4  # micro-bins of a window, for a learned sampler


@dataclass
class Source:
    """Builds detectors with the same weights for variants of one config.

    trained: of a checkpoint its detector. size: (height, width) of inputs.
    """

    cfg: DictConfig
    classes: int
    channels: int
    size: tuple[int, int]
    trained: Detector | None = None

    def config(self, overrides: list[str]) -> DictConfig:
        """The config with overrides; UserError for one that a checkpoint decides."""
        for text in overrides if self.trained is not None else []:
            if text.startswith("model."):
                raise UserError(f"{text}: the checkpoint decides that")
        return apply_overrides(self.cfg, overrides)

    def build(self, cfg: DictConfig) -> Detector:
        """A detector on the CPU."""
        if self.trained is not None:
            return copy.deepcopy(self.trained)
        torch.manual_seed(cfg.seed)
        return build_model(cfg, self.classes, self.channels)[0]

    def batch(self, model: Detector, samples: int) -> Batch:
        """Random samples, as a loader collates them: images in 8 bits, T event frames, or a window of micro-bins with
        0.4 events per pixel; three boxes each."""
        frame = (self.channels, *self.size)
        generator, scale = torch.Generator().manual_seed(0), 1.0
        if isinstance(model.encoder, MakesFrames):
            x = torch.poisson(torch.full((samples, 1, BINS, *frame), 0.4 / BINS), generator)
        elif self.channels == 3:
            x, scale = torch.randint(256, (samples, *frame), dtype=torch.uint8, generator=generator), 1 / 255
        else:
            x = torch.rand(model.T, samples, *frame, generator=generator)
        height, width = self.size
        boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.6, 0.9], [0.5, 0.1, 0.6, 0.2]])
        boxes = boxes * torch.tensor([width, height] * 2)
        targets = [{"boxes": boxes, "labels": torch.zeros(3, dtype=torch.int64)} for _ in range(samples)]
        names, starts = list(range(samples)), torch.zeros(samples, dtype=torch.bool)
        made = Batch(x, targets, names, [self.size] * samples, [Placement()] * samples, scale, starts)  # type: ignore[arg-type]
        return made.pin_memory() if torch.cuda.is_available() else made


def open_source(what: str, overrides: list[str], classes: int | None, channels: int | None) -> Source:
    """Of a config without `classes` and `channels`, its training split tells both."""
    path = Path(what)
    if path.suffix == ".pt" or path.is_dir():
        for flag, value in (("--classes", classes), ("--channels", channels)):
            if value is not None:
                raise UserError(f"{flag}: the checkpoint decides that")
        run = open_run(path)
        cfg, channels = config_from_plain(run.config), run.content["model_kwargs"].get("in_channels", 3)
        source = Source(cfg, len(run.class_names), channels, (0, 0), run.model)
        source.cfg = source.config(overrides)
        set_evaluation_options(run.model, None if channels == 3 else run.model.T, source.cfg.eval.T)
    elif path.suffix in (".yaml", ".yml"):
        cfg = load_config(path, overrides)
        if classes is None or channels is None:
            try:
                dataset = build_dataset(cfg, cfg.data.train_split)
            except ValueError as error:
                raise UserError(f"{error}. Or give --classes and --channels, which the dataset would tell") from error
            classes, channels = classes or len(dataset.class_names), channels or dataset.channels
            if cfg.data.size is None and (size := getattr(dataset, "size", None)) is not None:
                cfg = apply_overrides(cfg, [f"data.size={list(size)}"])
        source = Source(cfg, classes, channels, (0, 0))
    else:
        cfg = load_config(BASE, [f"model.name={what}", *OF_A_NAME, *overrides])
        own = model_defaults(what)
        source = Source(cfg, classes or own["num_classes"], channels or own["in_channels"], (0, 0))
    size = config_to_plain(source.cfg)["data"]["size"]
    source.size = height_width(320 if size is None else size)
    return source


def batches_of(cfg: DictConfig) -> Iterator[Batch]:
    """Batches of the config's training loader, epoch after epoch."""
    dataset = build_dataset(cfg, cfg.data.train_split, augment=True)
    loader = train_loader(dataset, cfg.train.batch_size, cfg.seed, cfg.data.workers, epochs=cfg.train.epochs)
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from loader
