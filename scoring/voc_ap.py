"""PASCAL VOC average precision: 11 points (2007) or the area under the curve (2010 and later).

Boxes here end where the next pixel begins (xyxy with exclusive end, so w = x2 - x1). VOC files give the last pixel
inside, and the devkit adds 1 to each width. The datasets convert that, so plain intersection over union of our boxes
equals the devkit's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .coco_ap import check_boxes


@dataclass(frozen=True)
class Curve:
    """Detections of one class by descending score, without those matched to difficult truth.

    is_true [n]: bool, true or false positive. scores [n]. positives: boxes to be found, without difficult ones.
    """

    is_true: np.ndarray
    scores: np.ndarray
    positives: int

    @property
    def recall(self) -> np.ndarray:
        return np.cumsum(self.is_true) / max(self.positives, 1)

    @property
    def precision(self) -> np.ndarray:
        return np.cumsum(self.is_true) / np.arange(1, len(self.is_true) + 1)

    def counts(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(true positives, false positives) among the detections whose score is at least each of the thresholds [n]."""
        above = np.searchsorted(-self.scores, -thresholds, side="right")
        true = np.r_[0, np.cumsum(self.is_true)][above]
        return true, above - true

    def ap_11_point(self) -> float | None:
        """VOC2007: mean over recall r = 0, 0.1 .. 1 of the best precision at recall >= r (0 where never reached).

        Recall is compared in whole numbers. The usual code compares floats against 3 * 0.1 = 0.30000000000000004 and
        misses a recall of exactly 3/10.
        """
        if not self.positives:
            return None
        found = np.cumsum(self.is_true)
        return sum(float(self.precision[10 * found >= k * self.positives].max(initial=0)) for k in range(11)) / 11

    def ap_area(self) -> float | None:
        """VOC2010+: area under the curve after precision is made monotone, each true positive a step of 1/positives."""
        if not self.positives:
            return None
        best = np.maximum.accumulate(self.precision[::-1])[::-1]
        return float(best[self.is_true].sum() / self.positives)


@dataclass(frozen=True)
class Match:
    """A detection, the box of its class that it overlaps most, None if by less than the threshold, and whether it is a
    true positive; None: ignored, as its box is."""

    detection: dict[str, Any]
    annotation: dict[str, Any] | None
    is_true: bool | None


def voc_ap(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    eleven_points: bool,
    iou_threshold: float = 0.5,
    ignored: Callable[[dict[str, Any]], bool] | None = None,
) -> dict[str, Any]:
    """AP50, the mean over classes that have truth (0 if none has), and per_class_AP50 {name: AP, None without truth}.

    Arguments and errors as `precision_recall`.
    """
    curves = precision_recall(ground_truth, detections, iou_threshold, ignored)
    per_class = {name: c.ap_11_point() if eleven_points else c.ap_area() for name, c in curves.items()}
    defined = [ap for ap in per_class.values() if ap is not None]
    return {"AP50": float(np.mean(defined)) if defined else 0.0, "per_class_AP50": per_class}


def precision_recall(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    iou_threshold: float = 0.5,
    ignored: Callable[[dict[str, Any]], bool] | None = None,
) -> dict[str, Curve]:
    """{class name: Curve} of COCO results against a COCO dict, matched as the VOC devkit does.

    In descending order of score (equal scores in the order given) a detection is matched to the truth of its class with
    the largest IoU. If that is >= `iou_threshold`, it is a true positive, a false one if the truth was matched before,
    and ignored if the truth is `difficult` (or `iscrowd`, which VOC does not have). Other detections are false
    positives, but for those that are `ignored`. Their number is not limited. UserError as in `coco_ap.check_boxes`.
    """
    check_boxes(ground_truth, detections)
    curves = {}
    for name, truth, found in by_class(ground_truth, detections):
        counted = [m for m in matches(truth, found, iou_threshold) if m.is_true is not None]
        counted = [m for m in counted if m.is_true or ignored is None or not ignored(m.detection)]
        is_true, scores = [m.is_true for m in counted], [float(m.detection["score"]) for m in counted]
        positives = sum(not is_ignored(a) for annotations in truth.values() for a in annotations)
        curves[name] = Curve(np.array(is_true, dtype=bool), np.array(scores, dtype=np.float64), positives)
    return curves


def by_class(
    ground_truth: dict[str, Any], detections: list[dict[str, Any]]
) -> Iterator[tuple[str, dict[int, list[dict[str, Any]]], list[dict[str, Any]]]]:
    """(name, {image id: its annotations}, detections) of each class, in the order of `categories`."""
    truth: dict[int, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for annotation in ground_truth["annotations"]:
        truth[annotation["category_id"]][annotation["image_id"]].append(annotation)
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for detection in detections:
        found[detection["category_id"]].append(detection)
    for category in ground_truth["categories"]:
        yield category["name"], dict(truth[category["id"]]), found[category["id"]]


def matches(
    truth: Mapping[int, Sequence[dict[str, Any]]], detections: list[dict[str, Any]], iou_threshold: float
) -> Iterator[Match]:
    """Of the detections of one class, in descending order of score. truth: {image id: its annotations}."""
    boxes = {image: np.array([a["bbox"] for a in items], dtype=np.float64) for image, items in truth.items()}
    taken: set[tuple[int, int]] = set()
    for detection in sorted(detections, key=lambda d: -d["score"]):  # sorted() keeps the order of equal scores
        image = detection["image_id"]
        annotation: dict[str, Any] | None = None
        is_true: bool | None = False
        if image in boxes:
            overlap = iou(detection["bbox"], boxes[image])
            best = int(overlap.argmax())
            if overlap[best] >= iou_threshold:
                annotation = truth[image][best]
                is_true = None if is_ignored(annotation) else (image, best) not in taken
                taken.add((image, best))
        yield Match(detection, annotation, is_true)


def is_ignored(annotation: dict[str, Any]) -> bool:
    """Whether a box of the truth is neither a miss nor makes its detections false."""
    return bool(annotation.get("difficult") or annotation.get("iscrowd"))


def iou(box: list[float], boxes: np.ndarray) -> np.ndarray:
    """Intersection over union [N] of one xywh box with `boxes` [N, 4] xywh; 0 where both are empty."""
    x, y, w, h = (float(v) for v in box)
    width = np.minimum(x + w, boxes[:, 0] + boxes[:, 2]) - np.maximum(x, boxes[:, 0])
    height = np.minimum(y + h, boxes[:, 1] + boxes[:, 3]) - np.maximum(y, boxes[:, 1])
    shared = width.clip(0) * height.clip(0)
    union = w * h + boxes[:, 2] * boxes[:, 3] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
