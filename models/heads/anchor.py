"""Anchor head (YOLOv5, EMS-YOLO): 1 x 1 convolutions, anchors matched by ratio, CIoU + objectness + class loss.

The loss is that of the YOLOv5 family, to which the published code belongs; comments name each of its rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert

from registry import UserError

from ..layers.time import readout
from .anchor_coding import CODINGS
from .anchor_fit import best_possible_recall, kmeans_anchors
from .boxes import cells, complete_iou, complete_iou_loss, select_detections
from .over_processes import over_processes
from .precision import at_least_float32
from .registry import register_head
from .soft_targets import sigmoid_kl

# By the number of levels: pixels, finest level first (two: strides 16 and 32; three: 8, 16, 32), COCO. One: stride 32,
# Darknet's of YOLOv2-tiny for VOC.
DEFAULT_ANCHORS = {
    1: (((34.56, 38.08), (109.44, 141.12), (212.16, 364.16), (301.44, 163.52), (531.84, 336.64)),),
    2: (((10, 14), (23, 27), (37, 58)), ((81, 82), (135, 169), (344, 319))),
    3: (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)), ((116, 90), (156, 198), (373, 326))),
}
# For two levels the published code uses (4, 1), by accident of its lookup table; kept, since the published weights were
# trained with it.
DEFAULT_BALANCE = {1: (1.0,), 2: (4.0, 1.0), 3: (4.0, 1.0, 0.4)}


@register_head("anchor")
class AnchorHead(nn.Module):
    """Feature maps [T, B, C_l, H_l, W_l] -> logits [B, A, H_l, W_l, 5 + K]: x, y, w, h, objectness, classes.

    Differs from the published code where boxes share a cell: the objectness target is the best of them, there the one
    written last, which is random on CUDA. The eps of its CIoU differs, which changes the loss by a factor of 1 + 1e-9.

    Args:
        channels, strides: of the levels, finest first.
        num_classes: K.
        anchors: [L, A, 2] widths and heights in pixels; `fit_anchors` can replace them for a dataset.
            These and `balance` have defaults for one, two and three levels.
        coding: of boxes: yolov5, or yolov3 (also YOLOv2's) for published weights of these: centre sigmoid(xy) in the
            cell, size anchor exp(wh). A box then matches its own cell alone. It still matches all anchors within
            `anchor_ratio`, where Darknet has the best one.
        box_gain, class_gain, objectness_gain: before the rescaling in `loss`.
        balance: weight of each level's objectness.
        anchor_ratio: an anchor matches a box when no side differs by this factor or more.
        score_threshold, nms_iou, max_candidates, max_detections: of `decode`.
    """

    anchors: Tensor  # [L, A, 2] pixels

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        anchors: Sequence[Sequence[Sequence[float]]] | None = None,
        coding: str = "yolov5",
        box_gain: float = 0.05,
        class_gain: float = 0.5,
        objectness_gain: float = 1.0,
        balance: Sequence[float] | None = None,
        anchor_ratio: float = 4.0,
        score_threshold: float = 0.001,
        nms_iou: float = 0.6,
        max_candidates: int = 30_000,
        max_detections: int = 300,
    ):
        super().__init__()
        anchors = _default("anchors", DEFAULT_ANCHORS, len(strides)) if anchors is None else anchors
        balance = _default("balance", DEFAULT_BALANCE, len(strides)) if balance is None else balance
        if coding not in CODINGS:
            raise UserError(f"coding = {coding!r}: choose one of {', '.join(CODINGS)}")
        if len(channels) != len(strides):
            raise UserError(f"{len(channels)} levels, but {len(strides)} strides")
        for name, rows in (("anchors", anchors), ("balance", balance)):
            if len(rows) != len(strides):
                raise UserError(
                    f"{name} = {rows}: {len(rows)} rows, but the network has {len(strides)} levels, of strides "
                    f"{', '.join(map(str, strides))}: give a row for each, or leave {name} out"
                )
        self.num_classes, self.strides, self.balance = num_classes, tuple(strides), tuple(balance)
        self.box_gain, self.class_gain, self.objectness_gain = box_gain, class_gain, objectness_gain
        self.anchor_ratio, self.coding_name, self.coding = anchor_ratio, coding, CODINGS[coding]
        self.selection: dict[str, Any] = dict(
            score_threshold=score_threshold,
            iou_threshold=nms_iou,
            max_candidates=max_candidates,
            max_detections=max_detections,
        )
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32))
        num_anchors = self.anchors.shape[1]
        self.predict = nn.ModuleList(nn.Conv2d(c, num_anchors * (5 + num_classes), 1) for c in channels)
        for conv, stride in zip(self.predict, strides, strict=True):
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            # An image of 640 x 640 is expected to hold 8 objects, each of a class with probability 0.6 / K.
            bias = conv.bias.detach().view(num_anchors, -1)
            bias[:, 4] += math.log(8 / (640 / stride) ** 2)
            bias[:, 5:] += math.log(0.6 / (num_classes - 0.999999))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        num_anchors = self.anchors.shape[1]
        return [
            readout(conv, x).unflatten(1, (num_anchors, -1)).permute(0, 1, 3, 4, 2)  # type: ignore[arg-type]
            for conv, x in zip(self.predict, features, strict=True)
        ]

    def decode(self, logits: list[Tensor], size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """Per image boxes [N, 4] xyxy in pixels of the input, scores [N], labels [N], best first."""
        return [select_detections(b, s, **self.selection) for b, s in zip(*self.candidates(logits), strict=True)]

    def candidates(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes [B, M, 4] xyxy in pixels of the input and scores [B, M, K] of all predictions, before thresholds."""
        boxes, scores = self.decode_dense(logits)
        # With one class its logit is not trained: the score is the objectness.
        scores = scores[..., :1] if self.num_classes == 1 else scores[..., :1] * scores[..., 1:]
        return box_convert(boxes, "cxcywh", "xyxy"), scores

    def decode_dense(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """All predictions, level by level, anchor by anchor, row by row: boxes [B, M, 4] cxcywh in pixels of the input,
        and probabilities [B, M, 1 + K] of objectness and classes."""
        boxes, scores = [], []
        for level, anchors, stride in zip(logits, self.anchors, self.strides, strict=True):
            level = at_least_float32(level)
            xy, wh = self.coding.box(level[..., :4], anchors[:, None, None])
            xy = (xy + cells(level.shape[2], level.shape[3], level.device)) * stride
            boxes.append(torch.cat([xy, wh], -1).flatten(1, 3))
            scores.append(level[..., 4:].sigmoid().flatten(1, 3))
        return torch.cat(boxes, 1), torch.cat(scores, 1)

    def loss(self, logits: list[Tensor], targets: list[dict[str, Tensor]], size: tuple[int, int]) -> dict[str, Tensor]:
        """Losses `box`, `objectness`, `class`, each a sum over the batch's images of per-image means.

        Gains are rescaled as published: box by 3 / L, class by 3 / L * K / 80, objectness by 3 / L * pixels / 640^2,
        where pixels are those of the input, filled up to whole cells of the finest level.

        `box` and `class` are means over the matches of a level, times the number of images. With several processes
        both are taken over all of them, so that the gradients add up to those of one process with all images
        (published: over each process alone). All processes must then call this equally often.
        """
        logits = [at_least_float32(level) for level in logits]
        image = torch.cat([torch.full_like(t["labels"], i) for i, t in enumerate(targets)])
        labels = torch.cat([t["labels"] for t in targets])
        boxes = box_convert(torch.cat([t["boxes"] for t in targets]), "xyxy", "cxcywh")

        box_means, class_means, entries, matches = [], [], [], []  # of each level: means over the entries of `_match`
        objectness_loss = logits[0].new_zeros(())
        for level, predicted in enumerate(logits):
            matched, b, cls, anchor, column, row, box_cells = self._match(level, predicted, image, labels, boxes)
            objectness = predicted.new_zeros(predicted.shape[:4])  # contiguous whatever the layout of the logits
            p = predicted[b, anchor, row, column]  # [M, 5 + K]
            xy, wh = self.coding.box(p[:, :4], (self.anchors[level] / self.strides[level])[anchor])
            distance = complete_iou_loss(
                box_convert(torch.cat([xy, wh], 1), "cxcywh", "xyxy"), box_convert(box_cells, "cxcywh", "xyxy")
            )
            entries.append(len(b))
            box_means.append((distance * matched).sum() / max(len(b), 1))
            # Objectness target: the largest CIoU of the boxes that share a cell (published: of the last one).
            flat = torch.arange(objectness.numel(), device=predicted.device).view_as(objectness)[b, anchor, row, column]
            quality = (1 - distance.detach()).clamp(min=0) * matched
            objectness.view(-1).scatter_reduce_(0, flat, quality, "amax")
            if self.num_classes > 1 and len(b):
                one_hot = (cls[:, None] == torch.arange(self.num_classes, device=cls.device)).to(p.dtype)
                class_means.append(F.binary_cross_entropy_with_logits(p[:, 5:], one_hot, weight=matched[:, None]))
            else:
                class_means.append(p.new_zeros(()))
            matches.append(matched.sum())
            level_loss = F.binary_cross_entropy_with_logits(predicted[..., 4], objectness)
            objectness_loss = objectness_loss + level_loss * self.balance[level]

        pixels = math.prod(math.ceil(side / self.strides[0]) for side in size) * self.strides[0] ** 2
        box_gain, objectness_gain, class_gain = self._gains(pixels)
        images, number = over_processes(sum("unlabelled" not in t for t in targets), torch.stack(matches))
        number = number.clamp(min=1)
        # Means over the matches of all processes; 0 where there is none.
        box_loss, class_loss = (
            sum((m * (n / count) for m, n, count in zip(means, entries, number, strict=True)), number.new_zeros(()))
            for means in (box_means, class_means)
        )
        return {
            "box": box_loss * (box_gain * images),
            "objectness": objectness_loss * (objectness_gain * logits[0].shape[0]),
            "class": class_loss * (class_gain * images),
        }

    def distill(self, logits: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """The losses towards a teacher's predictions at all anchors, in the place of boxes: `objectness`, its KL; `box`
        (1 - CIoU) and `class`, the KL of each class probability, both as means weighted by the teacher's objectness
        (the sum of weights at least 1). Means over the batch, times its images, with gains as in `loss`."""
        weights = [at_least_float32(level)[..., 4].sigmoid() for level in wanted]
        images, sums = over_processes(len(logits[0]), torch.stack([weight.sum() for weight in weights]))
        box_loss = class_loss = objectness_loss = logits[0].new_zeros((), dtype=torch.float32)
        for level, (ours, theirs) in enumerate(zip(logits, wanted, strict=True)):
            ours, theirs = at_least_float32(ours), at_least_float32(theirs)
            boxes, wanted_boxes = (self._boxes(level, p) for p in (ours, theirs))
            weight = weights[level] / sums[level].clamp(min=1)
            box_loss = box_loss + ((1 - complete_iou(boxes, wanted_boxes)) * weight).sum()
            if self.num_classes > 1:
                class_loss = class_loss + (sigmoid_kl(ours[..., 5:], theirs[..., 5:]).mean(-1) * weight).sum()
            distance = sigmoid_kl(ours[..., 4], theirs[..., 4])
            objectness_loss = objectness_loss + distance.sum() / max(distance.numel(), 1) * self.balance[level]
        batch, _, height, width = logits[0].shape[:4]
        box_gain, objectness_gain, class_gain = self._gains(height * width * self.strides[0] ** 2)
        objectness_loss = objectness_loss * objectness_gain * (batch / images if batch else 0.0)
        return (box_loss * box_gain + objectness_loss + class_loss * class_gain) * images

    def logit_code(self) -> dict[str, Any]:
        return {"coding": self.coding_name, "anchors": self.anchors.tolist()}

    def _boxes(self, level: int, logits: Tensor) -> Tensor:
        """[B, A, H, W, 4] xyxy in pixels, relative to the corner of the cell."""
        xy, wh = self.coding.box(logits[..., :4], self.anchors[level][:, None, None])
        return box_convert(torch.cat([xy * self.strides[level], wh], -1), "cxcywh", "xyxy")

    def _gains(self, pixels: int) -> tuple[float, float, float]:
        """Gains of box, objectness and class, rescaled as in `loss`."""
        per_level = 3 / len(self.strides)
        return (
            self.box_gain * per_level,
            self.objectness_gain * per_level * pixels / 640**2,
            self.class_gain * per_level * self.num_classes / 80,
        )

    def _match(self, level: int, logits: Tensor, image: Tensor, labels: Tensor, boxes: Tensor):
        """Match the cells of a level to boxes [N, 4] cxcywh in pixels.

        Returns, one entry per match: 1.0, image, label, anchor, column, row [M], and the box [M, 4] as cxcywh in cells,
        its centre relative to that cell. On a GPU, where their number would have to be waited for, entries that could
        have been matches are among them, with 0.0.
        """
        height, width = logits.shape[2:4]
        cells = boxes / self.strides[level]
        ratio = cells[None, :, 2:] / (self.anchors[level] / self.strides[level])[:, None]
        fits = torch.maximum(ratio, 1 / ratio).amax(-1) < self.anchor_ratio  # [A, N]
        # A centre in the left half of its cell is also given to the cell on the left, and so on: up to 3 cells in all,
        # but never beyond the map. Where the coding keeps centres within their cell it is given to that cell alone.
        x, y = cells[:, 0], cells[:, 1]
        near_low = [(place % 1 < 0.5) & (place > 1) for place in (x, y)]
        near_high = [((size - place) % 1 < 0.5) & (size - place > 1) for place, size in ((x, width), (y, height))]
        chosen = torch.stack([torch.ones_like(near_low[0]), *near_low, *near_high])  # [5, N]
        matched = (chosen if self.coding.neighbours else chosen[:1])[:, None] & fits  # [5, A, N]
        if matched.is_cpu:
            which, anchor, n = matched.nonzero(as_tuple=True)
        else:
            places = (torch.arange(length, device=matched.device) for length in matched.shape)
            which, anchor, n = (grid.flatten() for grid in torch.meshgrid(*places, indexing="ij"))
        matched = matched[which, anchor, n]
        x, y = x[n], y[n]
        column = (x - 0.5 * (which == 1) + 0.5 * (which == 3)).long().clamp(0, width - 1)
        row = (y - 0.5 * (which == 2) + 0.5 * (which == 4)).long().clamp(0, height - 1)
        # The size 1 keeps the gradient of what is no match finite.
        sides = cells[n, 2:].where(matched[:, None], 1)
        relative = torch.cat([torch.stack([x - column, y - row], 1), sides], 1)
        return matched.to(logits.dtype), image[n], labels[n], anchor, column, row, relative

    def fit_anchors(self, sizes: np.ndarray) -> str:
        """Keep the anchors if they match more than 98 % of the boxes (sizes [N, 2] in input pixels), else replace them
        by those of k-means, if these match more. Returns one line for the user."""
        count, sizes = len(sizes), sizes[(sizes > 2).all(1)]
        if not len(sizes):
            return f"anchors kept: none of {count} training boxes is larger than 2 pixels, the least that can be fitted"
        current = self.anchors.flatten(0, 1).cpu().numpy()
        reached = best_possible_recall(sizes, current, self.anchor_ratio)
        if reached > 0.98 or len(sizes) < len(current):
            few = "" if len(sizes) >= len(current) else f", too few to fit {len(current)} anchors"
            return f"anchors kept: they reach {reached:.1%} of {len(sizes)} training boxes{few}"
        fitted = kmeans_anchors(sizes, len(current))
        better = best_possible_recall(sizes, fitted, self.anchor_ratio)
        if better <= reached:
            return f"anchors kept: they reach {reached:.1%} of {len(sizes)} training boxes, k-means {better:.1%}"
        self.anchors.copy_(torch.from_numpy(fitted).view_as(self.anchors))
        return f"anchors fitted by k-means: {reached:.1%} -> {better:.1%} of {len(sizes)} training boxes reached"

    def class_rows(self) -> dict[str, int]:
        """Keys of the state dict with one group of rows per anchor, each of which ends in one row per class."""
        keys = [f"predict.{i}.{p}" for i in range(len(self.predict)) for p in ("weight", "bias")]
        return dict.fromkeys(keys, self.anchors.shape[1])

    def readouts(self) -> list[nn.Conv2d]:
        return list(self.predict)  # type: ignore[arg-type]

    def published_names(self) -> dict[str, str]:
        names = {f"predict.{i}.{p}": f"m.{i}.{p}" for i in range(len(self.predict)) for p in ("weight", "bias")}
        return {"anchors": "anchors"} | names

    def published_factor(self, name: str) -> Tensor | None:
        """Published anchors are in strides, ours in pixels."""
        return self.anchors.new_tensor(self.strides).view(-1, 1, 1) if name == "anchors" else None


def _default(name: str, by_levels: dict[int, Any], levels: int) -> Any:
    if levels not in by_levels:
        raise UserError(f"the anchor head has {name} for {list(by_levels)} levels, not for {levels}: give `{name}`")
    return by_levels[levels]
