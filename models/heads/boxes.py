"""Box operations of all heads: grid of cells, IoU, complete IoU (CIoU), thresholding and non-maximum suppression."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import batched_nms


def cells(height: int, width: int, device: torch.device) -> Tensor:
    """[height, width, 2] float32: (column, row) of every cell."""
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack([columns, rows], -1).float()


def plain_iou(a: Tensor, b: Tensor, eps: float = 1e-16) -> Tensor:
    """IoU in [0, 1] of boxes [..., 4] xyxy, shapes broadcast; 0 of boxes without area."""
    ax0, ay0, ax1, ay1 = a.unbind(-1)
    bx0, by0, bx1, by1 = b.unbind(-1)
    width = (torch.minimum(ax1, bx1) - torch.maximum(ax0, bx0)).clamp(min=0)
    height = (torch.minimum(ay1, by1) - torch.maximum(ay0, by0)).clamp(min=0)
    common = width * height
    return common / ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - common + eps)


def complete_iou(a: Tensor, b: Tensor, eps: float = 1e-7) -> Tensor:
    """CIoU in (-2, 1] of boxes [..., 4] xyxy in pixels, shapes broadcast. IoU minus distance of centres minus
    difference of aspect ratios, finite with its gradient for boxes without area too (Zheng et al., "Distance-IoU Loss:
    Faster and Better Learning for Bounding Box Regression", AAAI 2020).

    `torchvision.ops` has it without broadcasting, with a GPU synchronisation, and NaN for boxes without height.
    """
    size_a, size_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    common = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    iou = common / (size_a.prod(-1) + size_b.prod(-1) - common + eps)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    between = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2  # the centres
    distance = between.square().sum(-1) / (hull.square().sum(-1) + eps)
    angle_a, angle_b = (torch.atan(size[..., 0] / (size[..., 1] + eps)) for size in (size_a, size_b))
    aspect = 4 / math.pi**2 * (angle_a - angle_b).square()
    with torch.no_grad():
        weight = aspect / (1 - iou + aspect + eps)
    return iou - distance - weight * aspect


def complete_iou_loss(a: Tensor, b: Tensor, eps: float = 1e-7) -> Tensor:
    """1 - CIoU [N] of pairs of boxes [N, 4] xyxy, not finite for boxes without height.

    It has the values and gradients of `torchvision.ops.complete_box_iou_loss` to the last bit, by the same order of
    operations, without its boolean indices, for which a GPU is waited for.
    """

    def sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
        x0, y0, x1, y1 = boxes.unbind(-1)
        return x1 - x0, y1 - y0

    def overlap() -> Tensor:
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a.unbind(-1), b.unbind(-1)
        left, top, right, bottom = ax0.maximum(bx0), ay0.maximum(by0), ax1.minimum(bx1), ay1.minimum(by1)
        common = ((right - left) * (bottom - top)).where((bottom > top) & (right > left), 0)
        return common / ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - common + eps)

    def distance() -> Tensor:
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a.unbind(-1), b.unbind(-1)
        left, top, right, bottom = ax0.minimum(bx0), ay0.minimum(by0), ax1.maximum(bx1), ay1.maximum(by1)
        diagonal = (right - left) ** 2 + (bottom - top) ** 2 + eps
        ax, ay, bx, by = (ax1 + ax0) / 2, (ay1 + ay0) / 2, (bx0 + bx1) / 2, (by0 + by1) / 2
        return ((ax - bx) ** 2 + (ay - by) ** 2) / diagonal

    iou = overlap()
    loss = 1 - iou + distance()
    width_a, height_a = sides(a)
    width_b, height_b = sides(b)
    aspect = (4 / math.pi**2) * (torch.atan(width_b / height_b) - torch.atan(width_a / height_a)) ** 2
    with torch.no_grad():
        weight = aspect / (1 - iou + aspect + eps)
    return loss + weight * aspect


def select_detections(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float,
    iou_threshold: float,
    max_candidates: int,
    max_detections: int,
) -> dict[str, Tensor]:
    """Detections of one image: threshold, class-aware non-maximum suppression, best first.

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
