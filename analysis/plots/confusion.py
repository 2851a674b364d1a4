"""The confusion matrix of classes, and its plot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torchvision.ops import box_iou

from scoring.voc_ap import is_ignored

from ..draw import class_colours, legible
from .figure import title_of_axes, verbatim, write_figure


def plot_confusion(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    path: str | Path,
    title: str,
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
) -> None:
    """Write a png of `confusion_matrix`: counts in the cells, coloured by their share of the row.

    title: run, split and protocol of the evaluation.
    """
    names = [c["name"] for c in ground_truth["categories"]]
    counts = confusion_matrix(ground_truth, detections, score_threshold, iou_threshold)
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    side = float(np.clip(1.6 + 0.55 * len(counts), 4, 22))
    figure = Figure(figsize=(side + 2, side + 0.5), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap="Greys", vmin=0, vmax=1)
    ticks = np.arange(len(counts))
    shown = [legible(name) for name in names]
    axes.set_xticks(ticks, [*shown, "not found"], rotation=90 if len(names) > 4 else 0)
    axes.set_yticks(ticks, [*shown, "background"])
    verbatim([*axes.get_xticklabels(), *axes.get_yticklabels()])
    for k, colour in enumerate(class_colours(len(names))):  # a bar of its class's colour at each row and column
        style: dict[str, Any] = {"color": np.array(colour) / 255, "linewidth": 5, "clip_on": False, "zorder": 3}
        axes.plot([k - 0.45, k + 0.45], [0, 0], transform=axes.get_xaxis_transform(), **style)
        axes.plot([0, 0], [k - 0.45, k + 0.45], transform=axes.get_yaxis_transform(), **style)
    axes.set(xlabel="detected as", ylabel="truth", xlim=(-0.5, len(counts) - 0.5), ylim=(len(counts) - 0.5, -0.5))
    boxes = int(counts[:-1].sum())
    title_of_axes(axes, title, f"score ≥ {score_threshold:g}, IoU ≥ {iou_threshold:g}, {boxes} boxes")
    if len(counts) <= 25:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                dark = shares[row, column] > 0.5
                axes.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
    figure.colorbar(drawn, ax=axes, label="share of the row", shrink=0.8)
    write_figure(figure, path)


def confusion_matrix(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    score_threshold: float | Mapping[str, float | None] = 0.3,
    iou_threshold: float = 0.5,
) -> np.ndarray:
    """int64 [K + 1, K + 1]: rows truth, columns detections, K classes in the order of `categories`.

    Row K counts detections on background, column K truth that was not found. In descending order of score each
    detection is matched to the unmatched truth of any class with the largest IoU, if that is >= `iou_threshold`.
    Difficult and crowd boxes are matched like others, but neither they nor their detections are counted.

    score_threshold: of all classes, or {class name: its own}; None: no detection of that class.
    """
    of_classes = score_threshold if isinstance(score_threshold, Mapping) else None
    limits = {c["id"]: of_classes[c["name"]] if of_classes else score_threshold for c in ground_truth["categories"]}
    index = {c["id"]: k for k, c in enumerate(ground_truth["categories"])}
    matrix = np.zeros((len(index) + 1, len(index) + 1), dtype=np.int64)
    truth, found = defaultdict(list), defaultdict(list)
    for annotation in ground_truth["annotations"]:
        truth[annotation["image_id"]].append(annotation)
    for detection in sorted(detections, key=lambda d: -d["score"]):
        limit = limits[detection["category_id"]]
        if limit is not None and detection["score"] >= limit:
            found[detection["image_id"]].append(detection)
    for image in ground_truth["images"]:
        there, here = truth[image["id"]], found[image["id"]]
        overlap = box_iou(_xyxy(here), _xyxy(there)).numpy()
        free = np.ones(len(there), dtype=bool)
        for detection, row in zip(here, overlap, strict=True):
            candidates = np.where(free, row, -1)
            best = int(candidates.argmax()) if len(there) else 0
            if not len(there) or candidates[best] < iou_threshold:
                matrix[-1, index[detection["category_id"]]] += 1
                continue
            free[best] = False
            if not is_ignored(there[best]):
                matrix[index[there[best]["category_id"]], index[detection["category_id"]]] += 1
        for annotation, missed in zip(there, free, strict=True):
            if missed and not is_ignored(annotation):
                matrix[index[annotation["category_id"]], -1] += 1
    return matrix


def _xyxy(records: list[dict[str, Any]]) -> torch.Tensor:
    boxes = torch.tensor([r["bbox"] for r in records], dtype=torch.float64).reshape(-1, 4)
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
