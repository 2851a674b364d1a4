"""Task-aligned label assignment: points are assigned to boxes by classification score and IoU.

Feng et al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021, section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .boxes import complete_iou


class Assignment(NamedTuple):
    """For each point: `box` [B, M], the index of its box, and `score` [B, M] in [0, 1], the target of its class
    probability. Score 0 is background; the index then has no meaning."""

    box: Tensor
    score: Tensor


@torch.no_grad()
def assign(
    points: Tensor,
    probabilities: Tensor,
    predicted: Tensor,
    boxes: Tensor,
    labels: Tensor,
    topk: int,
    alpha: float,
    beta: float,
    eps: float = 1e-9,
) -> Assignment:
    """Assign to each box the `topk` points inside it with the highest metric, probability^alpha * CIoU^beta. A point of
    several boxes is assigned to the box around it that its prediction overlaps most. Scores are the metric, scaled so
    that the best point of each box gets the highest CIoU among that box's points.

    No gradient goes through an assignment.

    Args:
        points: [M, 2] pixels.
        probabilities, predicted: [B, M, K] of the classes, [B, M, 4] xyxy.
        boxes, labels: [B, N, 4] xyxy and [B, N] of N >= 1 boxes; padding has label -1.
    """
    # [B, N, M]: every box with every point.
    index = labels.clamp(min=0).unsqueeze(-1).expand(-1, -1, len(points))
    probability = probabilities.transpose(1, 2).gather(1, index)
    inside = torch.minimum(points - boxes[:, :, None, :2], boxes[:, :, None, 2:] - points).amin(-1) > eps
    inside &= (labels >= 0).unsqueeze(-1)
    overlap = complete_iou(predicted[:, None], boxes[:, :, None]).clamp(min=0) * inside
    metric = probability.pow(alpha) * overlap.pow(beta)

    top = metric.topk(min(topk, len(points)), dim=-1)
    claimed = torch.zeros_like(inside).scatter_(-1, top.indices, top.values > 0)
    claims = claimed.sum(1, keepdim=True)
    box = torch.where(claims > 1, overlap, claimed.to(overlap.dtype)).argmax(1, keepdim=True)

    # [B, M]: every point with its box.
    metric, overlap = ((value.gather(1, box) * (claims > 0)).squeeze(1) for value in (metric, overlap))
    box = box.squeeze(1)
    zero = metric.new_zeros(labels.shape)
    best_metric, best_overlap = (
        zero.scatter_reduce(1, box, value, "amax").gather(1, box) for value in (metric, overlap)
    )
    return Assignment(box, metric * best_overlap / (best_metric + eps))
