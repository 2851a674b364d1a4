"""Inputs to check an exported file with: samples of the validation split, or random ones where there is no data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from data import DetectionDataset
from data.recordings import Events, MemoryReader
from data.sample import collate
from models import Detector
from models.deploy.binary import to_binary
from registry import UserError

from ..build import build_dataset, fixed_steps
from ..config import evaluation_options
from ..evaluation_options import set_evaluation_options
from ..runs.open import Run
from .options import ExportOptions

COUNT = 4
MANY = 64  # steps


@dataclass
class Samples:
    """x: a batch as the model takes it; input: the preprocessing, plain values; source: where they are from."""

    x: Tensor
    input: dict[str, Any]
    source: str


def config_of(options: ExportOptions) -> DictConfig:
    """The config with --size."""
    cfg = options.cfg.copy()
    if options.size is not None:
        cfg.data.size = list(options.size)
    cfg.eval.rectangular = False  # an exported file has one size
    return cfg


def samples_of(run: Run, options: ExportOptions) -> Samples:
    """UserError only where there is neither data nor a description of the input."""
    cfg = config_of(options)
    try:
        dataset = build_dataset(cfg, cfg.data.val_split, generate=False)
        chosen = np.linspace(0, len(dataset) - 1, options.batch or min(COUNT, len(dataset))).astype(int).tolist()
        x, _ = collate([dataset[i] for i in chosen], dataset.scale).to("cpu")
        plain = dataset.input.to_plain() if dataset.input is not None else run.content.get("input")
        return Samples(x, plain or {}, f"{len(chosen)} samples of split {cfg.data.val_split}")
    except (UserError, OSError) as error:
        x, plain = _random(run, options)
        return Samples(x, plain, f"random input, as the data could not be read ({error})")


def _random(run: Run, options: ExportOptions) -> tuple[Tensor, dict[str, Any]]:
    form: Any = run.input
    if options.size is not None:
        form = type(form)(**{k: v for k, v in form.to_plain().items() if k != "kind"} | {"size": options.size})
    rng = np.random.default_rng(0)
    if form.num_steps is None:
        images = torch.from_numpy(rng.integers(0, 256, (options.batch or 2, 3, *form.size), dtype=np.uint8))
        return images.float() * form.scale, form.to_plain()
    if form.kind != "events":
        raise UserError("an input of precomputed frames has no random example: give the data, data.root=FOLDER")
    height, width = form.sensor
    t = np.sort(rng.integers(0, form.window_us, height * width)).astype(np.int64)
    x, y, p = (rng.integers(0, n, len(t)) for n in (width, height, 2))
    reader = MemoryReader(Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8)), form.sensor)
    frames, _ = form(reader, 0, form.window_us)
    count = options.batch or 2
    stacked = torch.stack([frames] * count, 1 if frames.dim() == 4 else 0)
    return stacked.float() * form.scale, form.to_plain()


def dataset_for(options: ExportOptions, split: str) -> DetectionDataset:
    return build_dataset(config_of(options), split, generate=False)


def detector_of(run: Run, options: ExportOptions, samples: Samples) -> Detector:
    """The detector that is exported, with the options `eval.*` of the config; a line says what it does not keep."""
    if options.cfg.data.args.get("sampling") == "sequential":
        print(
            "data.args.sampling = sequential: the file carries no membranes: it begins every window in the reset state"
        )
    steps = fixed_steps(run.model, samples.input.get("num_steps"))
    set_evaluation_options(run.model, steps, **evaluation_options(options.cfg))
    if run.model.T > MANY:
        print(f"T = {run.model.T}: the file holds every step, which takes minutes and megabytes: eval.T=32 has fewer")
    return to_binary(run.model) if options.binary else run.model
