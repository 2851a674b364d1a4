"""What the tab HParams of TensorBoard compares runs by: the settings of a config that may change its scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from ..config import BASE, flat

SECTIONS = ("seed", "model", "optim", "train")
DATA = ("name", "size", "augment", "args")  # mappings as one text: datasets share few of their keys
ALWAYS = ("seed", "model.name", "model.T", "model.neuron", "model.head", "optim.lr", "train.epochs", "train.batch_size")
# How fast a training runs, and what it keeps.
NEVER = ("train.log_every", "train.profile", "train.save_minutes", "train.max_hours", "train.keep_every")
METRICS = ("val/AP", "val/AP50")


def hyperparameters(config: Mapping[str, Any]) -> dict[str, str | float]:
    """{dotted key: value} of a plain config: a few that every run has, and those that differ from configs/base.yaml.
    Numbers stay numbers, all else is text."""
    base = flat(OmegaConf.to_container(OmegaConf.load(BASE)))  # type: ignore[arg-type]
    settings = flat({section: config[section] for section in SECTIONS if section in config})
    chosen = {
        key: value
        for key, value in settings.items()
        if any(f"{key}.".startswith(f"{part}.") for part in ALWAYS) or key not in NEVER and value != base.get(key)
    }
    chosen |= {f"data.{key}": value for key in DATA if (value := config.get("data", {}).get(key))}
    return {key: _plain(value) for key, value in chosen.items() if value is not None}


def _plain(value: Any) -> str | float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
