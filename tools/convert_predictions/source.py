"""What evaluate.py or predict.py left in a folder (`Source`)."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import UserError
from scoring.detections import read_detections, read_truth


@dataclass
class Source:
    """COCO lists, in pixels of the original images.

    folder:      of evaluate.py or predict.py
    images:      id, file_name, width, height; of recordings also t_us
    annotations: the truth of an evaluation, else None
    incomplete:  why a prediction lacks frames, as its images.json says
    hidden:      detections below the score that `above` was asked for
    """

    folder: Path
    images: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    detections: list[dict[str, Any]]
    annotations: list[dict[str, Any]] | None
    info: dict[str, Any]
    incomplete: str | None = None
    hidden: int = 0

    def above(self, score: float) -> Source:
        kept = [found for found in self.detections if found["score"] >= score]
        return dataclasses.replace(self, detections=kept, hidden=len(self.detections) - len(kept))

    def by_image(self) -> dict[int, list[dict[str, Any]]]:
        """{image id: its detections, best first}, with an entry for every image."""
        found: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in self.images}
        for detection in sorted(self.detections, key=lambda detection: -detection["score"]):
            found[detection["image_id"]].append(detection)
        return found

    def metrics(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(request, data) of the evaluation's metrics.json."""
        path = self.folder / "metrics.json"
        try:
            content = json.loads(path.read_bytes())
            return content["request"], content["data"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: no metrics.json of an evaluation, which names its checkpoint: {error}") from error

    def names(self) -> dict[int, str]:
        return {category["id"]: category["name"] for category in self.categories}


def read_source(folder: Path) -> Source:
    """UserError naming file, entry and remedy for a folder of something else, and for entries that are malformed."""
    if (folder / "detections.json").exists() and (folder / "annotations.json").exists():
        truth = read_truth(folder / "annotations.json")
        found = read_detections(folder / "detections.json", truth)
        annotations = truth["annotations"]
    elif (folder / "predictions.json").exists() and (folder / "images.json").exists():
        truth = read_truth(folder / "images.json", annotated=False)
        found = read_detections(folder / "predictions.json", truth)
        annotations = None
    else:
        raise UserError(
            f"{folder}: has neither detections.json and annotations.json, as folders of evaluate.py, nor "
            "predictions.json and images.json, as those of predict.py --save-json"
        )
    for i, image in enumerate(truth["images"]):
        window = ["window_us"] if annotations is None and "t_us" in image and "frame" not in image else []
        if missing := [key for key in ("file_name", "width", "height", *window) if key not in image]:
            raise UserError(f"{folder}: images[{i}] has no {missing[0]}, which other tools need")
        if not isinstance(image["file_name"], str):
            raise UserError(f"{folder}: images[{i}] has file_name {image['file_name']!r:.80}. Give a text")
    info = truth["info"] if isinstance(truth.get("info"), dict) else {}
    return Source(folder, truth["images"], truth["categories"], found, annotations, info, truth.get("incomplete"))
