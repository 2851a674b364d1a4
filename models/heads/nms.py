"""From dense scores to detections: threshold, class-aware non-maximum suppression, best first."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import batched_nms


def select_detections(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float,
    iou_threshold: float,
    max_candidates: int,
    max_detections: int,
) -> dict[str, Tensor]:
    """Detections of one picture.

    boxes [M, 4] xyxy, scores [M, K]. Every (box, class) pair above `score_threshold` is a candidate, so one box may
    give several classes, as in the evaluation of the YOLO family. Returns boxes [N, 4], scores [N], labels [N].
    """
    index, labels = (scores > score_threshold).nonzero(as_tuple=True)
    confidence = scores[index, labels]
    if confidence.numel() > max_candidates:
        confidence, top = confidence.topk(max_candidates)
        index, labels = index[top], labels[top]
    candidates = boxes[index]
    keep = batched_nms(candidates, confidence, labels, iou_threshold)[:max_detections]
    return {"boxes": candidates[keep], "scores": confidence[keep], "labels": labels[keep]}
