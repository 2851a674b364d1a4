"""The settings behind the scores of a checkpoint, as metrics.json has them."""

from __future__ import annotations

from typing import Any

from models import Detector
from models.checkpoints.converted import conversion_settings

from ..config import config_from_plain
from ..runs.fingerprint import describe, weights_digest
from .subject import Subject


def settings_of(subject: Subject, model: Detector, weights: str) -> dict[str, Any]:
    """model: as it is run. weights: "ema" or "model"."""
    run, cfg, truth, split = subject.run, subject.cfg, subject.truth, subject.split
    content = run.content
    return {
        "split": split,
        "model": content["model_kwargs"]["name"],
        "neuron": content["model_kwargs"].get("neuron"),
        **subject.selection,
        **({"T": subject.curve.steps[-1]} if subject.curve.steps else {}),
        **({"annealed": content["annealed"]} if "annealed" in content else {}),
        **conversion_settings(content, model),
        "input_size": None if cfg.eval.rectangular else list(subject.dataset[0].x.shape[-2:]),
        "precision": subject.precision,
        "parameters": subject.parameters,
        "weights": weights,
        "weights_digest": weights_digest(content[weights]),
        "epochs": content["epoch"],
        "seed": config_from_plain(run.config).seed,
        "checkpoint": str(run.checkpoint),
        **({"clips": len({image["clip"] for image in truth["images"]})} if "clip" in truth["images"][0] else {}),
        "data": {"name": cfg.data.name, "root": str(cfg.data.root), **describe(truth, split)},
    }
