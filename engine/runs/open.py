"""open_run: model, weights, config, class names and input from a checkpoint or run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import Input, input_from_plain
from models import Detector, create_model
from registry import UserError

from ..anneal import set_values
from .checkpoint import Content, checkpoint_in, load_checkpoint, load_weights
from .converted import build_converted


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
        if "input" not in self.content:
            raise UserError(
                f"{self.checkpoint}: does not say how its images or events were prepared, as checkpoints of earlier "
                "versions. Resume its training for an epoch (train.epochs=N --resume), which writes a new one"
            )
        return input_from_plain(self.content["input"], f"{self.checkpoint}: input")


def open_run(path: str | Path, weights: str = "ema") -> Run:
    """Open a checkpoint, or a run folder: its best checkpoint, or the last one if no epoch was scored.

    weights: "ema", averaged over the training, or "model", those of the last step. The model is built by its registered
    name and arguments, with the values that `train.anneal` had reached; that of a checkpoint of convert.py is converted
    from it again, by the scales in the checkpoint.
    No code in a checkpoint is run. UserError if it is damaged.
    """
    path = checkpoint_in(path)
    content = load_checkpoint(path)
    if weights not in ("ema", "model"):
        raise UserError(f"weights = {weights!r}: give 'ema', the averaged ones, or 'model', the last ones")
    try:
        model = create_model(**content["model_kwargs"])
    except (ValueError, TypeError, AttributeError, LookupError, RuntimeError) as error:
        raise UserError(f"{path}: its model cannot be built from model_kwargs: {error}") from error
    load_weights(model, content[weights], path)
    try:
        set_values(model, content.get("annealed", {}))
    except (UserError, TypeError) as error:
        raise UserError(f"{path}: annealed = {content['annealed']!r:.200}: {error}") from error
    model.eval()
    identity = content["config"], content["class_names"], content
    if "conversion" not in content:
        return Run(path, model, *identity)
    return Run(path, build_converted(model, content, weights, path), *identity, ann=model)
