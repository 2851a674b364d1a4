"""SimOTA label assignment: each box takes the cells that are cheapest for it, as many as its predictions overlap it.

Ge et al., "YOLOX: Exceeding YOLO Series in 2021", section 2.1, a simplification of optimal transport (OTA).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .boxes import plain_iou

MOST = 10  # cells of a box


class Rule(NamedTuple):
    """Which cells may be assigned to a box. A cell near a box has its centre within `radius` strides of the box's
    centre, along both axes.

    A cell is a candidate if it is near any box of its image (`in_box`: or inside one). `penalty` is added to the cost
    of a candidate for the boxes that it is not near (`in_box`: near and inside).
    """

    radius: float
    in_box: bool
    penalty: float


RULES = {"centre": Rule(1.5, False, 1e6), "box_or_centre": Rule(2.5, True, 1e5)}


class Assignment(NamedTuple):
    """`foreground` [B, M]: whether a cell has a box. Those that do fill some of S slots per image: `slot` [B, S] says
    which slots, `cell`, `box` and `iou` [B, S] the cell, its box, and their IoU; in other slots these have no meaning.
    """

    foreground: Tensor
    slot: Tensor
    cell: Tensor
    box: Tensor
    iou: Tensor


@torch.no_grad()
def assign(
    centres: Tensor,
    stride: Tensor,
    predicted: Tensor,
    objectness: Tensor,
    classes: Tensor,
    boxes: Tensor,
    labels: Tensor,
    rule: Rule,
) -> Assignment:
    """Assign to each box the k candidates of the lowest cost: class BCE of sqrt(p_class p_objectness) - 3 log IoU +
    penalty. k is the sum of the ten highest IoUs of the box with candidates, rounded down, at least 1. A cell that
    several boxes take goes to the box, of all in the image, for which it is cheapest.

    Args:
        centres, stride: of the cells, [M, 2] and [M, 1] pixels.
        predicted, objectness, classes: [B, M, 4] xyxy, logits [B, M] and [B, M, K].
        boxes, labels: [B, N, 4] xyxy and [B, N] of N >= 1 boxes; padding has label -1.
    """
    exists = (labels >= 0).unsqueeze(-1)
    preferred, candidate = _geometry(centres, stride, boxes, exists, rule)
    predicted = predicted.mT.contiguous().mT  # one coordinate after the other in memory: a CPU takes half the time
    overlap = plain_iou(boxes.unsqueeze(2), predicted.unsqueeze(1))  # [B, N, M]
    cost = _class_cost(objectness, classes, labels) - 3 * (overlap + 1e-8).log()
    cost = (cost + rule.penalty * ~preferred).masked_fill(~(candidate & exists), torch.inf)

    most = min(MOST, len(centres))
    k = (overlap * candidate).topk(most, -1).values.sum(-1, keepdim=True).int().clamp(min=1)
    cheapest = cost.topk(most, -1, largest=False)
    order = torch.arange(most, device=k.device)
    taken = ((order < k) & cheapest.values.isfinite()).flatten(1)  # [B, S], S = N * most
    cell = cheapest.indices.flatten(1)

    # The first and the last slot that took a cell; two differ where several boxes did. The first keeps the cell.
    slots = torch.arange(cell.shape[1], device=k.device).expand_as(cell)
    nowhere = slots.new_full((len(cell), len(centres)), cell.shape[1])
    first = nowhere.scatter_reduce(1, cell, slots.where(taken, cell.shape[1]), "amin")
    last = (nowhere - cell.shape[1] - 1).scatter_reduce(1, cell, slots.where(taken, -1), "amax")
    owner = cost.gather(2, cell.unsqueeze(1).expand(-1, cost.shape[1], -1)).argmin(1)
    box = torch.where((first != last).gather(1, cell), owner, slots // most)
    iou = overlap.flatten(1).gather(1, box * len(centres) + cell)
    return Assignment(last >= 0, taken & (first.gather(1, cell) == slots), cell, box, iou)


def _geometry(centres: Tensor, stride: Tensor, boxes: Tensor, exists: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """[B, N, M] cells without penalty for each box, and [B, 1, M] candidates."""
    reach = rule.radius * stride.squeeze(-1)
    near = inside = exists
    for axis, place in enumerate(centres.mT.contiguous()):
        low, high = boxes[..., axis, None], boxes[..., axis + 2, None]
        near = near & ((place - (low + high) / 2).abs() < reach)
        if rule.in_box:
            inside = inside & (place > low) & (place < high)
    if not rule.in_box:
        return near, near.any(1, keepdim=True)
    return near & inside, (near | inside).any(1, keepdim=True)


def _class_cost(objectness: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
    """[B, N, M]: BCE of the probabilities sqrt(p_class p_objectness) against one-hot labels, summed over the classes.

    Logarithms are at least -100, as torch's BCE has them.
    """
    p = (classes.sigmoid() * objectness.unsqueeze(-1).sigmoid()).sqrt()
    wrong, right = -torch.log1p(-p).clamp(min=-100), -p.log().clamp(min=-100)
    label = labels.clamp(min=0).unsqueeze(-1).expand(-1, -1, p.shape[1])
    return wrong.sum(-1).unsqueeze(1) + (right - wrong).mT.gather(1, label)
