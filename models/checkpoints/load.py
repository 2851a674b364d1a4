"""load_detector: the trained detector of a checkpoint or run folder, ready for inference."""

from __future__ import annotations

from pathlib import Path

from registry import UserError

from ..adjustable import set_values
from ..detector import Detector
from ..registry import create_model
from .content import Content, checkpoint_in, load_checkpoint, load_weights
from .converted import build_converted


def load_detector(path: str | Path, weights: str = "ema") -> Detector:
    """The detector of a checkpoint, or of a run folder: of its best checkpoint, or the last one if no epoch was scored.

    On the CPU, in evaluation mode: `model(x)` gives one dict per image of boxes [N, 4] xyxy in pixels of x, scores [N]
    and labels [N]. `model.class_names` names the labels; `data.input_from_plain(model.input)` prepares an image or a
    window of events as in the training.

    weights: "ema", averaged over the training, or "model", those of the last step

    The model is built by its registered name and arguments, with the values that `train.anneal` had reached; that of a
    checkpoint of convert.py is converted from it again, by the scales in the checkpoint. No code in a checkpoint is
    run. UserError if it is damaged, or needs a part that is not registered.
    """
    return build_detector(load_checkpoint(checkpoint_in(path)), weights)[0]


def build_detector(content: Content, weights: str = "ema") -> tuple[Detector, Detector | None]:
    """(the detector of a checkpoint, the network that it was converted from or None), as `load_detector` gives it."""
    path = content.path
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
    ann = model.eval() if "conversion" in content else None
    if ann is not None:
        model = build_converted(ann, content, weights, path)
    model.class_names, model.input = content["class_names"], content.get("input")
    return model.eval(), ann
