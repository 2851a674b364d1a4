"""Mistakes of each image: boxes that were missed, and detections that are false, at the thresholds of the classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .voc_ap import by_class, is_ignored, matches


@dataclass
class Mistakes:
    """Of one image: annotations found and missed, detections true and false. What is ignored is in none of them."""

    image_id: int
    found: list[dict[str, Any]] = field(default_factory=list)
    missed: list[dict[str, Any]] = field(default_factory=list)
    true: list[dict[str, Any]] = field(default_factory=list)
    false: list[dict[str, Any]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.missed) + len(self.false)


def worst_images(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    thresholds: Mapping[str, float | None],
    count: int,
    iou_threshold: float = 0.5,
) -> list[Mistakes]:
    """The `count` images with the most mistakes, at least one, worst first; of equal ones those with more missed boxes.

    thresholds: {class name: score from which its detections count}; None: none of them does. Matched as in
    `voc_ap.precision_recall`.
    """
    images = {image["id"]: Mistakes(image["id"]) for image in ground_truth["images"]}
    for name, truth, found in by_class(ground_truth, detections):
        limit = thresholds[name]
        counted = [] if limit is None else [d for d in found if d["score"] >= limit]
        reached = set()
        for match in matches(truth, counted, iou_threshold):
            of_image = images[match.detection["image_id"]]
            if match.is_true:
                reached.add(id(match.annotation))
            if match.is_true is not None:
                (of_image.true if match.is_true else of_image.false).append(match.detection)
        for image_id, boxes in truth.items():
            for annotation in boxes:
                if not is_ignored(annotation):
                    of_image = images[image_id]
                    (of_image.found if id(annotation) in reached else of_image.missed).append(annotation)
    wrong = [image for image in images.values() if image.count]
    return sorted(wrong, key=lambda image: (-image.count, -len(image.missed), image.image_id))[:count]
