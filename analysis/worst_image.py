"""Draw the mistakes of a detector on one image: boxes missed, and false detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from scoring.mistakes import Mistakes

from .draw import captioned, draw_boxes, event_image, zoom_of

DIMMED = 0.6  # so that boxes stand out


def draw_mistakes(
    x: Tensor, mistakes: Mistakes, categories: Sequence[dict[str, Any]], to_sample: Callable[[Tensor], Tensor]
) -> Tensor:
    """Missed truth left, false detections right, each named in the colour of its class; what is right in white.

    x: `Sample.x` as an image uint8 [3, H, W], or events [T, 2, H, W]. to_sample: maps boxes xyxy from pixels of the
    original image to those of x. Returns uint8 [3, H', W'].
    """
    image = event_image(x) if x.dim() == 4 else x.detach().cpu()
    labels = {category["id"]: label for label, category in enumerate(categories)}
    names = [category["name"] for category in categories]
    zoom = zoom_of(*image.shape[1:])
    image = (image * DIMMED).to(torch.uint8).repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
    missed, false = len(mistakes.missed), len(mistakes.false)
    panels = []
    for words, right, wrong in (
        (f"truth: {missed} missed, {len(mistakes.found)} found", mistakes.found, mistakes.missed),
        (f"detections: {false} false, {len(mistakes.true)} true", mistakes.true, mistakes.false),
    ):
        panel = draw_bounding_boxes(image, zoom * to_sample(_xyxy(right)), colors="white", width=2) if right else image
        scores = torch.tensor([box["score"] for box in wrong]) if wrong and "score" in wrong[0] else None
        of_wrong = torch.tensor([labels[box["category_id"]] for box in wrong], dtype=torch.int64)
        panel = draw_boxes(panel, zoom * to_sample(_xyxy(wrong)), of_wrong, names, scores, zoom=1)
        panels.append(captioned(panel, words))
    return torch.cat([panels[0], torch.zeros_like(panels[0][..., :6]), panels[1]], 2)


def _xyxy(records: Sequence[dict[str, Any]]) -> Tensor:
    boxes = torch.tensor([record["bbox"] for record in records], dtype=torch.float64).reshape(-1, 4)
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
