"""Complete IoU of boxes, element by element: overlap, less distance of centres, less difference of aspect ratios.

Zheng et al., "Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression", AAAI 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def complete_iou(a: Tensor, b: Tensor, eps: float = 1e-7) -> Tensor:
    """CIoU in (-2, 1] of boxes [..., 4] xyxy in pixels, shapes broadcast. Finite, with its gradient, for boxes of no
    area too.

    `torchvision.ops` has it without broadcasting, waiting for the GPU at a mask, and NaN for boxes of no height.
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
