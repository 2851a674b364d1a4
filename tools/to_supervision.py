"""Detections of a detector as those of the library supervision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from registry import UserError


def to_supervision(found: dict[str, Tensor], class_names: Sequence[str] | None = None) -> Any:
    """`supervision.Detections` of one image's {boxes [N, 4] xyxy, scores [N], labels [N]}, as `model(x)` gives them.

    Boxes stay in the pixels they are in. class_names: become `data["class_name"]`, which annotators write.
    """
    try:
        import supervision as sv
    except ImportError as error:
        raise UserError('to_supervision needs supervision: pip install -e ".[tools]"') from error
    labels = found["labels"].detach().cpu().numpy()
    if class_names is not None and len(labels) and labels.max() >= len(class_names):
        raise UserError(f"class_names: {len(class_names)} names, but a label {labels.max()}: give model.class_names")
    names = {} if class_names is None else {"class_name": np.array(class_names)[labels]}
    boxes, scores = (found[key].detach().cpu().float().numpy() for key in ("boxes", "scores"))
    return sv.Detections(boxes, confidence=scores, class_id=labels, data=names)
