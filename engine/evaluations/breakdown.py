"""Scores broken down: by confidence, by size, by class against class, by image. What breakdown.json holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analysis.plots.confusion import confusion_matrix
from scoring.confidence import by_confidence, by_recall
from scoring.evaluator import Evaluator
from scoring.mistakes import Mistakes, worst_images
from scoring.protocols import get_protocol
from scoring.voc_ap import precision_recall

IOU = 0.5
OF_IMAGES = ("file_name", "clip", "t_us")


@dataclass(frozen=True)
class Breakdown:
    """content: of breakdown.json, plain values; worst: the images with the most mistakes, worst first."""

    content: dict[str, Any]
    worst: list[Mistakes]

    def brief(self) -> dict[str, Any]:
        """Entries of metrics.json: best thresholds, AP by size, worst images."""
        confidence = self.content["confidence"]
        thresholds = {"classes": confidence["best"], "mean": confidence["best_mean"]}
        return {"best_thresholds": thresholds, **{key: self.content[key] for key in ("sizes", "worst_images")}}


def break_down(evaluator: Evaluator, protocol: str, worst: int) -> Breakdown:
    """Of the boxes that the protocol counts, at IoU 0.5. worst: how many images to name.

    Confusion and mistakes are those at the best threshold of each class.
    """
    rules = get_protocol(protocol)
    truth, found = rules.counted(*evaluator.truth_and_detections())
    curves = precision_recall(truth, found, IOU)
    confidence = by_confidence(curves)
    thresholds = {name: best["threshold"] for name, best in confidence["best"].items()}
    images = {image["id"]: image for image in truth["images"]}
    mistakes = worst_images(truth, found, thresholds, worst, IOU)
    content = {
        "protocol": protocol,
        "iou_threshold": IOU,
        "confidence": confidence,
        "precision_recall": by_recall(curves),
        "sizes": rules.by_size(*evaluator.truth_and_detections()),
        "confusion": confusion_matrix(truth, found, thresholds, IOU).tolist(),
        "worst_images": [_row(image, images[image.image_id]) for image in mistakes],
    }
    return Breakdown(content, mistakes)


def _row(mistakes: Mistakes, image: dict[str, Any]) -> dict[str, Any]:
    which = {key: image[key] for key in OF_IMAGES if key in image}
    counts = {key: len(getattr(mistakes, key)) for key in ("found", "missed", "true", "false")}
    return {"image_id": mistakes.image_id, **which, **counts}
