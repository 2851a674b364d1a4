"""DFL head (YOLOv8, SpikeYOLO): anchor-free, box sides as distributions over distances, no objectness.

The loss is that of YOLOv8, to which the published code belongs: task-aligned assignment, CIoU, two-bin cross entropy
(Li et al., "Generalized Focal Loss", NeurIPS 2020), class BCE.
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

from ..layers.spike_conv import RateConv, standard
from .boxes import cells, complete_iou, select_detections
from .over_processes import over_processes
from .precision import at_least_float32
from .registry import register_head
from .soft_targets import sigmoid_kl, softmax_kl
from .task_aligned import assign

NOT_PUBLISHED = re.compile(r"\.(neuron|step_weights)\.")
BINS = 16  # a distance is the mean of a distribution over 0, 1, ... 15 cells


@register_head("dfl")
class DFLHead(nn.Module):
    """Feature maps [T, B, C_l, H_l, W_l] -> logits [B, 4 * 16 + K, H_l, W_l]: the distributions of the distances of
    the left, top, right and bottom side from the cell's centre, then the classes.

    Args:
        channels, strides: of the levels, finest first.
        num_classes: K.
        neuron: of the head's layers; default: that of the network.
        box_gain, class_gain, dfl_gain: of the losses.
        topk, alpha, beta: of the assignment, see `task_aligned.assign`.
        score_threshold, nms_iou, max_candidates, max_detections: of `decode`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        neuron: NeuronSpec = "ilif",
        box_gain: float = 7.5,
        class_gain: float = 0.5,
        dfl_gain: float = 1.5,
        topk: int = 10,
        alpha: float = 0.5,
        beta: float = 6.0,
        score_threshold: float = 0.001,
        nms_iou: float = 0.7,
        max_candidates: int = 30_000,
        max_detections: int = 300,
    ):
        super().__init__()
        if len(channels) != len(strides):
            raise UserError(f"{len(channels)} levels, but {len(strides)} strides")
        self.num_classes, self.strides = num_classes, tuple(strides)
        self.box_gain, self.class_gain, self.dfl_gain = box_gain, class_gain, dfl_gain
        self.assignment: dict[str, Any] = dict(topk=topk, alpha=alpha, beta=beta)
        self.selection: dict[str, Any] = dict(
            score_threshold=score_threshold,
            iou_threshold=nms_iou,
            max_candidates=max_candidates,
            max_detections=max_detections,
        )
        make = neuron_factory(neuron)

        def branch(c1: int, hidden: int, out: int, bias: float) -> nn.Sequential:
            last = RateConv(hidden, out, make())
            nn.init.constant_(last.conv.bias, bias)  # type: ignore[arg-type]
            return nn.Sequential(standard(c1, hidden, make(), 3), standard(hidden, hidden, make(), 3), last)

        box_hidden = max(16, channels[0] // 4, 4 * BINS)
        class_hidden = max(channels[0], min(num_classes, 100))
        self.box = nn.ModuleList(branch(c, box_hidden, 4 * BINS, 1.0) for c in channels)
        # An image of 640 x 640 is expected to hold 5 objects, each of a class with probability 1 / K.
        self.classes = nn.ModuleList(
            branch(c, class_hidden, num_classes, math.log(5 / num_classes / (640 / s) ** 2))
            for c, s in zip(channels, strides, strict=True)
        )
        # Distance of each bin. Not trained, but a parameter, as in the published weights and parameter counts.
        self.dfl = nn.Parameter(torch.arange(BINS, dtype=torch.float32).view(1, BINS, 1, 1), requires_grad=False)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [
            torch.cat([box(x), classes(x)], 1) for box, classes, x in zip(self.box, self.classes, features, strict=True)
        ]

    def decode(self, logits: list[Tensor], size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """Per image boxes [N, 4] xyxy in pixels of the input, scores [N], labels [N], best first."""
        return [select_detections(b, s, **self.selection) for b, s in zip(*self.candidates(logits), strict=True)]

    def candidates(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes [B, M, 4] xyxy in pixels of the input and scores [B, M, K] of all predictions, before thresholds."""
        boxes, scores = self.decode_dense(logits)
        return box_convert(boxes, "cxcywh", "xyxy"), scores

    def decode_dense(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """All predictions, level by level, row by row: boxes [B, M, 4] cxcywh in pixels of the input, and probabilities
        [B, M, K] of the classes."""
        points, stride = self._points(logits)
        distributions, classes = self._split(logits)
        return box_convert(self._boxes(distributions, points, stride), "xyxy", "cxcywh"), classes.sigmoid()

    def loss(self, logits: list[Tensor], targets: list[dict[str, Tensor]], size: tuple[int, int]) -> dict[str, Tensor]:
        """Losses `box`, `class`, `dfl`, each summed over the points of all images, divided by the sum of the scores
        assigned (by 1, where it is less), and times the number of images, as published.

        With several processes, sum and number are taken over all of them, so that the gradients add up to those of one
        process with all images (published: over each process alone, which differs). All processes must then call this
        equally often.
        """
        points, stride = self._points(logits)
        distributions, classes = self._split(logits)
        predicted = self._boxes(distributions, points, stride)
        # One padded row more than the most boxes of an image, so that images without boxes need no special case.
        boxes = F.pad(pad_sequence([t["boxes"] for t in targets], batch_first=True), (0, 0, 0, 1))
        labels = pad_sequence([t["labels"] for t in targets], batch_first=True, padding_value=-1)
        labels = F.pad(labels, (0, 1), value=-1)
        box, score = assign(points, classes.sigmoid(), predicted, boxes, labels, **self.assignment)
        boxes, labels = boxes.gather(1, box.unsqueeze(-1).expand(-1, -1, 4)), labels.gather(1, box).clamp(min=0)

        wanted = torch.zeros_like(classes).scatter_(2, labels.unsqueeze(-1), score.unsqueeze(-1))
        # `box` and `dfl` weigh each point by its score, the background by 0; boolean indexing would force a sync.
        class_loss = F.binary_cross_entropy_with_logits(classes, wanted, reduction="sum")
        box_loss = ((1 - complete_iou(predicted, boxes)) * score).sum()
        distances = torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1) / stride
        dfl_loss = (two_bin_cross_entropy(distributions, distances).mean(-1) * score).sum()

        images, scores = over_processes(sum("unlabelled" not in t for t in targets), score.sum())
        scale = images / scores.clamp(min=1)
        return {
            "box": box_loss * (scale * self.box_gain),
            "class": class_loss * (scale * self.class_gain),
            "dfl": dfl_loss * (scale * self.dfl_gain),
        }

    def distill(self, logits: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """The `class` and `dfl` losses towards a teacher's predictions at all points, in the place of boxes: KL of each
        class probability, and KL of the distributions of each side, weighted by the teacher's confidence, its largest
        class probability. Divided by the sum of confidences (by 1, where it is less), times the number of images, with
        the head's gains. After Zheng et al., "Localization Distillation for Dense Object Detection", CVPR 2022;
        temperature 1, and all points (there: those around boxes, apart)."""
        distributions, classes = self._split(logits)
        wanted_distributions, wanted_classes = self._split(wanted)
        confidence = wanted_classes.sigmoid().amax(-1)
        class_loss = sigmoid_kl(classes, wanted_classes).sum()
        dfl_loss = (softmax_kl(distributions, wanted_distributions).mean(-1) * confidence).sum()
        images, confidences = over_processes(len(confidence), confidence.sum())
        scale = images / confidences.clamp(min=1)
        return class_loss * (scale * self.class_gain) + dfl_loss * (scale * self.dfl_gain)

    def logit_code(self) -> dict[str, Any]:
        return {}

    def _points(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Centres of the cells [M, 2] and their strides [M, 1], in pixels."""
        points, strides = [], []
        for level, stride in zip(logits, self.strides, strict=True):
            centres = (cells(level.shape[2], level.shape[3], level.device).flatten(0, 1) + 0.5) * stride
            points.append(centres)
            strides.append(torch.full_like(centres[:, :1], stride))
        return torch.cat(points), torch.cat(strides)

    def _split(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Distributions [B, M, 4, 16] and class logits [B, M, K] of all levels."""
        dense = torch.cat([at_least_float32(level).flatten(2) for level in logits], 2).transpose(1, 2)
        distributions, classes = dense.split([4 * BINS, self.num_classes], -1)
        return distributions.unflatten(-1, (4, BINS)), classes

    def _boxes(self, distributions: Tensor, points: Tensor, stride: Tensor) -> Tensor:
        """[B, M, 4] xyxy in pixels."""
        # A sum, not a matrix product: autocast would round the distances.
        distances = (distributions.softmax(-1) * self.dfl.flatten()).sum(-1) * stride
        return torch.cat([points - distances[..., :2], points + distances[..., 2:]], -1)

    def class_rows(self) -> dict[str, int]:
        """Keys of the state dict with one row per class, in one group."""
        return {key: 1 for key in self.state_dict() if re.fullmatch(r"classes\.\d+\.2\.conv\.(weight|bias)", key)}

    def readouts(self) -> list[nn.Conv2d]:
        return [branch[-1].conv for branch in (*self.box, *self.classes)]  # type: ignore[index, union-attr, misc]

    def published_names(self) -> dict[str, str]:
        names = {"dfl": "dfl.conv.weight"}
        for ours, theirs in {"box": "cv2", "classes": "cv3"}.items():
            keys = getattr(self, ours).state_dict()
            names |= {f"{ours}.{key}": f"{theirs}.{key}" for key in keys if not NOT_PUBLISHED.search(key)}
        return names


def two_bin_cross_entropy(distributions: Tensor, distances: Tensor) -> Tensor:
    """Logits [..., 16] and distances [...] in cells -> [...]: the cross entropy against the distribution over the
    two nearest bins whose mean is the distance. Distances are clamped to the range of the bins."""
    distances = distances.clamp(0, BINS - 1 - 0.01)
    low = distances.long()
    high_weight = distances - low
    log_p = distributions.log_softmax(-1).gather(-1, torch.stack([low, low + 1], -1))
    return -(log_p[..., 0] * (1 - high_weight) + log_p[..., 1] * high_weight)
