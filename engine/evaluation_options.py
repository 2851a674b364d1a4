"""Evaluation options of a trained detector: T for images, score threshold, IoU of NMS, number of detections."""

from __future__ import annotations

from typing import Any

from models import Detector
from models.contracts import Selects
from registry import UserError


def set_evaluation_options(
    model: Detector,
    num_steps: int | None,
    T: int | None = None,
    score_threshold: float | None = None,
    nms_iou: float | None = None,
    max_detections: int | None = None,
) -> dict[str, Any]:
    """Set the given values in `model`. Returns the T, score_threshold, nms_iou and max_detections then in effect.

    num_steps: T that the samples have, None where it can be changed: see `engine.build.fixed_steps`.
    UserError for T of event frames, and for options that the head's `selection` does not have.
    """
    if T is not None and num_steps is not None:
        raise UserError(
            f"eval.T = {T}: only images can be shown for another number of steps. Events come in the {num_steps} "
            "frames of their representation, each of a part of the window: leave it out, or train with another model.T"
        )
    if T is not None:
        model.T = T
    given = {"score_threshold": score_threshold, "iou_threshold": nms_iou, "max_detections": max_detections}
    given = {key: value for key, value in given.items() if value is not None}
    selection: dict[str, Any] = model.head.selection if isinstance(model.head, Selects) else {}
    if unknown := given.keys() - selection.keys():
        raise UserError(
            f"{type(model.head).__name__} has no {', '.join(sorted(unknown))} in its dict `selection`: leave out "
            "eval.score_threshold, eval.nms_iou and eval.max_detections"
        )
    selection.update(given)
    names = {"score_threshold": "score_threshold", "iou_threshold": "nms_iou", "max_detections": "max_detections"}
    return {"T": model.T, **{name: selection.get(key) for key, name in names.items()}}
