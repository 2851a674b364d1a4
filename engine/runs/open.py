"""open_run: model, weights, config, class names and input from a checkpoint or run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import Input, input_from_plain
from models import Detector
from models.checkpoints.content import Content, checkpoint_in, load_checkpoint
from models.checkpoints.load import build_detector


@dataclass
class Run:
    """A trained detector.

    checkpoint:  the file
    model:       on the CPU, in evaluation mode
    config:      that of the training, plain values
    class_names: in the order of the labels
    content:     all entries of the checkpoint
    ann:         of a converted checkpoint the network that `model` was converted from, else None
    """

    checkpoint: Path
    model: Detector
    config: dict[str, Any]
    class_names: list[str]
    content: Content
    ann: Detector | None = None

    @property
    def input(self) -> Input:
        """Turns an image or a window of events into an input of the model, as in the validation during training.

        UserError for the checkpoint of an earlier version, or of a dataset without an input of its own.
        """
        return input_from_plain(self.content.get("input"), f"{self.checkpoint}: input")


def open_run(path: str | Path, weights: str = "ema") -> Run:
    """Open a checkpoint, or a run folder: its best checkpoint, or the last one if no epoch was scored.

    weights: "ema", averaged over the training, or "model", those of the last step.
    The model is that of `models.load_detector`; UserError as there.
    """
    content = load_checkpoint(checkpoint_in(path))
    model, ann = build_detector(content, weights)
    return Run(content.path, model, content["config"], content["class_names"], content, ann)
