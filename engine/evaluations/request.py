"""The request of an evaluation: what it is of, and the folder named after it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import config_changes, config_from_plain
from ..runs.evaluation_folder import evaluation_name, option
from .options import Options
from .subject import Subject


@dataclass(frozen=True)
class Request:
    """out: the folder. content: the entry `request` of metrics.json. source: run, checkpoint, options; for titles."""

    out: Path
    content: dict[str, Any]
    source: str


def request_of(subject: Subject, asked: Options) -> Request:
    """The folder's name consists of split, protocol, checkpoint, and every option and key that differs from the run."""
    checkpoint, curve = subject.run.checkpoint, subject.curve
    changes = config_changes(config_from_plain(subject.run.config), subject.cfg)
    differs = [option("weights", asked.weights)] if asked.weights != "ema" else []
    differs += [flag for flag in ("binary", "allow_missing") if getattr(asked, flag)]
    numbers = {"steps": asked.steps and curve.steps, "noise": curve.densities}
    differs += [option(key, "-".join(f"{n:g}" for n in given)) for key, given in numbers.items() if given]
    differs += [option("history", asked.history.replace(",", "-"))] if asked.history else []
    differs += [option("windows", asked.windows.replace(",", "-"))] if asked.windows else []
    differs += [option("early_exit", asked.early_exit)] if asked.early_exit is not None else []
    differs += [
        option(key, new) for key, (_, new) in changes.items() if key not in ("data.test_split", "eval.protocol")
    ]
    name = evaluation_name([subject.split, subject.protocol, checkpoint.stem.removeprefix("checkpoint_"), *differs])
    out = asked.out or checkpoint.parent / "eval" / name
    content = {
        "checkpoint": seen_from(out, checkpoint),
        "split": subject.split,
        "protocol": subject.protocol,
        "weights": asked.weights,
        "binary": asked.binary,
        "allow_missing": asked.allow_missing,
        "config_changes": changes,  # {key: [of the run, here]}
        **({"steps": curve.steps, "noise": curve.densities, "early_exit": asked.early_exit} if curve.steps else {}),
        **({"history": asked.history} if asked.history else {}),
        **({"windows": subject.windows} if asked.windows else {}),
    }
    return Request(out, content, ", ".join([f"{checkpoint.resolve().parent.name} ({checkpoint.name})", *differs]))


def seen_from(folder: Path, file: Path) -> str:
    """Path of `file` relative to `folder`: it stays valid if both are moved together."""
    return os.path.relpath(file.resolve(), folder.resolve())
