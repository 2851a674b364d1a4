"""YOLOX head (YOLOX, EAS-SNN, SpikingYOLOX): anchor-free, one box and an objectness per cell, branches for classes and
boxes apart. Labels are assigned by SimOTA.

Ge et al., "YOLOX: Exceeding YOLO Series in 2021".
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert

from neurons import NeuronSpec, neuron_factory
from registry import UserError

from ..layers.csp import conv, unit
from ..layers.time import readout
from .boxes import cells, plain_iou, select_detections
from .over_processes import over_processes
from .precision import at_least_float32
from .registry import register_head
from .simota import RULES, assign
from .soft_targets import sigmoid_kl

NOT_PUBLISHED = re.compile(r"\.(neuron|step_weights)\.")
PRIOR = 0.01  # probability of objectness and of each class before training
BOX_GAIN = 5.0
LARGEST = 10_000  # strides: the largest side of a decoded box


@register_head("yolox")
class YOLOXHead(nn.Module):
    """Feature maps [T, B, C_l, H_l, W_l] -> logits [B, 4 + 1 + K, H_l, W_l]: x, y, w, h, objectness, classes.

    A box has its centre at (xy + cell's column and row) * stride and the size exp(wh) * stride; exp(wh) is at most
    10 000, so that losses stay finite (published: without a limit).

    Args:
        channels, strides: of the levels, finest first.
        num_classes: K.
        neuron: of the head's layers; default: that of the network.
        hidden: channels of the head's layers; default: those of the finest level.
        depthwise: 3 x 3 convolutions per channel, as in the size "nano".
        assignment: of labels to cells. "centre": cells within 1.5 strides of a box's centre, as in YOLOX and EAS-SNN;
            "box_or_centre": cells within 2.5 strides of it or inside the box, as in SpikingYOLOX.
        l1_epochs: the last epochs of a training in which the loss has an L1 term; None: all, 0: none.
        score_threshold, nms_iou, max_candidates, max_detections: of `decode`.
    """

    epochs_left: int | None = None  # of the training, with the current one; None: unknown

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        neuron: NeuronSpec = "silu",
        hidden: int | None = None,
        depthwise: bool = False,
        assignment: str = "centre",
        l1_epochs: int | None = None,
        score_threshold: float = 0.001,
        nms_iou: float = 0.65,
        max_candidates: int = 30_000,
        max_detections: int = 300,
    ):
        super().__init__()
        if len(channels) != len(strides):
            raise UserError(f"{len(channels)} levels, but {len(strides)} strides")
        if assignment not in RULES:
            raise UserError(f"assignment = {assignment!r}: choose one of {', '.join(RULES)}")
        if l1_epochs is not None and l1_epochs < 0:
            raise UserError(f"l1_epochs = {l1_epochs}: give at least 0, or null for all epochs")
        self.num_classes, self.strides = num_classes, tuple(strides)
        self.assignment, self.l1_epochs = RULES[assignment], l1_epochs
        self.selection: dict[str, Any] = dict(
            score_threshold=score_threshold,
            iou_threshold=nms_iou,
            max_candidates=max_candidates,
            max_detections=max_detections,
        )
        hidden, make = channels[0] if hidden is None else hidden, neuron_factory(neuron)

        def branches() -> nn.ModuleList:
            pairs = ([conv(hidden, hidden, make, 3, 1, depthwise) for _ in range(2)] for _ in channels)
            return nn.ModuleList(nn.Sequential(*pair) for pair in pairs)

        def predictions(out: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(hidden, out, 1) for _ in channels)

        self.stems = nn.ModuleList(unit(c, hidden, make()) for c in channels)
        self.cls_convs, self.reg_convs = branches(), branches()
        self.cls_preds, self.reg_preds, self.obj_preds = predictions(num_classes), predictions(4), predictions(1)
        for layer in (*self.cls_preds, *self.obj_preds):
            nn.init.constant_(layer.bias, math.log(PRIOR / (1 - PRIOR)))  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        logits = []
        for level, x in enumerate(features):
            x = self.stems[level](x)
            classes, boxes = self.cls_convs[level](x), self.reg_convs[level](x)
            predictions = ((self.reg_preds, boxes), (self.obj_preds, boxes), (self.cls_preds, classes))
            logits.append(torch.cat([readout(layers[level], y) for layers, y in predictions], 1))  # type: ignore[arg-type]
        return logits

    def decode(self, logits: list[Tensor], size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """Per image boxes [N, 4] xyxy in pixels of the input, scores [N], labels [N], best first.

        A score is p_objectness p_class. Every class of a cell is a candidate (published: its best class alone).
        """
        return [select_detections(b, s, **self.selection) for b, s in zip(*self.candidates(logits), strict=True)]

    def candidates(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes [B, M, 4] xyxy in pixels of the input and scores [B, M, K] of all predictions, before thresholds."""
        boxes, scores = self.decode_dense(logits)
        return box_convert(boxes, "cxcywh", "xyxy"), scores[..., :1] * scores[..., 1:]

    def decode_dense(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """All predictions, level by level, row by row: boxes [B, M, 4] cxcywh in pixels of the input, and probabilities
        [B, M, 1 + K] of objectness and classes."""
        regression, others = _dense(logits).split([4, 1 + self.num_classes], -1)
        return _boxes(regression, *self._cells(logits)), others.sigmoid()

    def loss(self, logits: list[Tensor], targets: list[dict[str, Tensor]], size: tuple[int, int]) -> dict[str, Tensor]:
        """Losses `box` (5 (1 - IoU^2)), `objectness` (BCE over all cells), `class` (BCE, whose target is the IoU), and
        in the epochs of `l1_epochs` `l1` (distance of x, y, w, h from the logits that decode to the box), each summed
        over all images, divided by the number of cells with a box (by 1, where there is none), and times the number of
        images.

        With several processes, both numbers are taken over all of them, so that the gradients add up to those of one
        process with all images (published: over each process alone). All processes must then call this equally often.
        """
        cell, stride = self._cells(logits)
        dense = _dense(logits)
        # One padded row more than the most boxes of an image, so that images without boxes need no special case.
        boxes = F.pad(pad_sequence([t["boxes"] for t in targets], batch_first=True), (0, 0, 0, 1)).to(dense.dtype)
        labels = pad_sequence([t["labels"] for t in targets], batch_first=True, padding_value=-1)
        labels = F.pad(labels, (0, 1), value=-1)
        regression, objectness, classes = dense.split([4, 1, self.num_classes], -1)
        predicted = box_convert(_boxes(regression.detach(), cell, stride), "cxcywh", "xyxy")
        found = assign(
            (cell + 0.5) * stride, stride, predicted, objectness.squeeze(-1), classes, boxes, labels, self.assignment
        )

        # The predictions of the slots [B, S, ...] alone, 0 in those that no cell fills.
        rows = dense.gather(1, found.cell.unsqueeze(-1).expand(-1, -1, dense.shape[-1]))
        rows = rows.where(found.slot.unsqueeze(-1), 0)
        cell, stride = cell[found.cell], stride[found.cell]
        boxes = boxes.gather(1, found.box.unsqueeze(-1).expand(-1, -1, 4))
        labels = labels.gather(1, found.box).clamp(min=0).unsqueeze(-1)
        regression, classes = rows[..., :4], rows[..., 5:]

        iou = plain_iou(box_convert(_boxes(regression, cell, stride), "cxcywh", "xyxy"), boxes)
        quality = torch.zeros_like(classes).scatter_(2, labels, found.iou.unsqueeze(-1))
        entropy = F.binary_cross_entropy_with_logits(classes, quality, reduction="none").sum(-1)
        losses = {
            "box": BOX_GAIN * ((1 - iou.square()) * found.slot).sum(),
            "objectness": F.binary_cross_entropy_with_logits(
                objectness.squeeze(-1), found.foreground.to(objectness.dtype), reduction="sum"
            ),
            "class": (entropy * found.slot).sum(),
        }
        if self._has_l1():
            wanted = box_convert(boxes, "xyxy", "cxcywh") / stride
            wanted = torch.cat([wanted[..., :2] - cell, (wanted[..., 2:] + 1e-8).log()], -1)
            losses["l1"] = ((regression - wanted).abs().sum(-1) * found.slot).sum()

        number = found.slot.sum().to(dense.dtype)
        images, number = over_processes(sum("unlabelled" not in t for t in targets), number)
        return {name: value * (images / number.clamp(min=1)) for name, value in losses.items()}

    def distill(self, logits: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """The losses towards a teacher's predictions in all cells, in the place of boxes: `objectness`, its KL; `box`,
        5 (1 - IoU^2), and `class`, the KL of each class probability, both weighted by the teacher's objectness. Divided
        by the sum of these weights (by 1, where it is less), times the number of images."""
        cell, stride = self._cells(logits)
        (regression, objectness, classes), (wanted_regression, wanted_objectness, wanted_classes) = (
            _dense(levels).split([4, 1, self.num_classes], -1) for levels in (logits, wanted)
        )
        weight = wanted_objectness.squeeze(-1).sigmoid()
        boxes, wanted_boxes = (
            box_convert(_boxes(r, cell, stride), "cxcywh", "xyxy") for r in (regression, wanted_regression)
        )
        at_objects = BOX_GAIN * (1 - plain_iou(boxes, wanted_boxes).square())
        at_objects = at_objects + sigmoid_kl(classes, wanted_classes).sum(-1)
        loss = sigmoid_kl(objectness, wanted_objectness).sum() + (at_objects * weight).sum()
        images, weights = over_processes(len(weight), weight.sum())
        return loss * (images / weights.clamp(min=1))

    def logit_code(self) -> dict[str, Any]:
        return {}

    def _has_l1(self) -> bool:
        if self.l1_epochs is None:
            return True
        return self.epochs_left is not None and self.epochs_left <= self.l1_epochs

    def _cells(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(column, row) [M, 2] of all cells, and their strides [M, 1] in pixels."""
        places = [cells(level.shape[2], level.shape[3], level.device).flatten(0, 1) for level in logits]
        strides = [torch.full_like(place[:, :1], s) for place, s in zip(places, self.strides, strict=True)]
        return torch.cat(places), torch.cat(strides)

    def class_rows(self) -> dict[str, int]:
        """Keys of the state dict with one row per class, in one group."""
        return {f"cls_preds.{i}.{p}": 1 for i in range(len(self.cls_preds)) for p in ("weight", "bias")}

    def readouts(self) -> list[nn.Conv2d]:
        return [*self.reg_preds, *self.obj_preds, *self.cls_preds]  # type: ignore[list-item]

    def published_names(self) -> dict[str, str]:
        names = {key: re.sub(r"\.neuron\.w$", ".act.w", key) for key in self.state_dict()}
        return {ours: theirs for ours, theirs in names.items() if not NOT_PUBLISHED.search(theirs)}


def _dense(logits: list[Tensor]) -> Tensor:
    """[B, M, 4 + 1 + K] of all levels."""
    return torch.cat([at_least_float32(level).flatten(2) for level in logits], 2).mT


def _boxes(regression: Tensor, cell: Tensor, stride: Tensor) -> Tensor:
    """[..., 4] cxcywh in pixels."""
    size = regression[..., 2:].clamp(max=math.log(LARGEST)).exp()
    return torch.cat([regression[..., :2] + cell, size], -1) * stride
