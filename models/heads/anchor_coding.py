"""Box codings of the anchor head: how the logits x, y, w, h of a cell become a box."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Coding(NamedTuple):
    """`box(logits [..., 4], anchors [..., 2])`: the centre relative to the cell's corner, in cells, and the size."""

    box: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    neighbours: bool  # whether centres up to half a cell outside can be reached, so that neighbours match, too


def _yolov5(logits: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Centre 2 sigmoid(xy) - 1/2, size anchor (2 sigmoid(wh))^2."""
    p = logits.sigmoid()
    return p[..., :2] * 2 - 0.5, (p[..., 2:4] * 2) ** 2 * anchors


def _yolov3(logits: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Centre sigmoid(xy), size anchor exp(wh), at most 1000 anchors, as YOLOv2 and YOLOv3."""
    return logits[..., :2].sigmoid(), torch.exp(logits[..., 2:4].clamp(max=math.log(1000))) * anchors


CODINGS = {"yolov5": Coding(_yolov5, neighbours=True), "yolov3": Coding(_yolov3, neighbours=False)}
