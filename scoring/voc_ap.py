"""PASCAL VOC average precision: 11 points (2007) or the area under the curve (2010 and later).

Boxes here end where the next pixel begins (xyxy with exclusive end, so w = x2 - x1). VOC files give the last pixel
inside, and the devkit adds 1 to each width. The datasets convert that, so plain intersection over union of our boxes
equals the devkit's.
"""

from __future__ import annotations

from collections import defaultdict
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


def voc_ap(
    ground_truth: dict[str, Any], detections: list[dict[str, Any]], eleven_points: bool, iou_threshold: float = 0.5
) -> dict[str, Any]:
    """AP50, the mean over classes that have truth (0 if none has), and per_class_AP50 {name: AP, None without truth}.

    Arguments and errors as `precision_recall`.
    """
    curves = precision_recall(ground_truth, detections, iou_threshold)
    per_class = {name: c.ap_11_point() if eleven_points else c.ap_area() for name, c in curves.items()}
    defined = [ap for ap in per_class.values() if ap is not None]
    return {"AP50": float(np.mean(defined)) if defined else 0.0, "per_class_AP50": per_class}


def precision_recall(
    ground_truth: dict[str, Any], detections: list[dict[str, Any]], iou_threshold: float = 0.5
) -> dict[str, Curve]:
    """{class name: Curve} of COCO results against a COCO dict, matched as the VOC devkit does.

    In descending order of score (equal scores in the order given) a detection is matched to the truth of its class with
    the largest IoU. If that is >= `iou_threshold`, it is a true positive, a false one if the truth was matched before,
    and ignored if the truth is `difficult` (or `iscrowd`, which VOC does not have). Other detections are false
    positives. Their number is not limited. UserError as in `coco_ap.check_boxes`.
    """
    check_boxes(ground_truth, detections)
    truth: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for annotation in ground_truth["annotations"]:
        truth[annotation["category_id"], annotation["image_id"]].append(annotation)
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for detection in detections:
        found[detection["category_id"]].append(detection)
    return {
        category["name"]: _match_class(
            {image: boxes for (cat, image), boxes in truth.items() if cat == category["id"]},
            found[category["id"]],
            iou_threshold,
        )
        for category in ground_truth["categories"]
    }


def _match_class(
    truth: dict[int, list[dict[str, Any]]], detections: list[dict[str, Any]], iou_threshold: float
) -> Curve:
    boxes = {image: np.array([a["bbox"] for a in items], dtype=np.float64) for image, items in truth.items()}
    difficult = {image: [bool(a.get("difficult") or a.get("iscrowd")) for a in items] for image, items in truth.items()}
    taken: set[tuple[int, int]] = set()
    is_true, scores = [], []
    for detection in sorted(detections, key=lambda d: -d["score"]):  # sorted() keeps the order of equal scores
        image = detection["image_id"]
        correct = False
        if image in boxes:
            overlap = iou(detection["bbox"], boxes[image])
            best = int(overlap.argmax())
            if overlap[best] >= iou_threshold:
                if difficult[image][best]:
                    continue
                correct = (image, best) not in taken
                taken.add((image, best))
        is_true.append(correct)
        scores.append(float(detection["score"]))
    positives = sum(not flag for flags in difficult.values() for flag in flags)
    return Curve(np.array(is_true, dtype=bool), np.array(scores, dtype=np.float64), positives)


def iou(box: list[float], boxes: np.ndarray) -> np.ndarray:
    """Intersection over union [N] of one xywh box with `boxes` [N, 4] xywh; 0 where both are empty."""
    x, y, w, h = (float(v) for v in box)
    width = np.minimum(x + w, boxes[:, 0] + boxes[:, 2]) - np.maximum(x, boxes[:, 0])
    height = np.minimum(y + h, boxes[:, 1] + boxes[:, 3]) - np.maximum(y, boxes[:, 1])
    shared = width.clip(0) * height.clip(0)
    union = w * h + boxes[:, 2] * boxes[:, 3] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
