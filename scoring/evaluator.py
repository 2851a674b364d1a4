"""Evaluator: collects detections image by image, in original pixels and dataset ids, and scores them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from registry import UserError

from .coco_ap import check_boxes
from .protocols import get_protocol


class Scored(Protocol):
    """What the evaluator reads of a batch: per image its id, (height, width), placement in the input, and target."""

    @property
    def image_ids(self) -> Sequence[int]: ...
    @property
    def original_sizes(self) -> Sequence[tuple[int, int]]: ...
    @property
    def placements(self) -> Sequence[Any]: ...  # with `to_original(boxes)`: from pixels of the input to the image's
    @property
    def targets(self) -> Sequence[Any]: ...


class Evaluator:
    """Detections of one model on one split, and their scores.

    ground_truth:    `DetectionDataset.ground_truth()`
    expected_images: how many images the labels list (`DetectionDataset.expected_images`), which is more than
                     `ground_truth` holds where files were missing; default: as many as `ground_truth` holds
    allow_missing:   score the images that were seen instead of raising when some were not

    With several processes each adds its own batches, then one evaluator takes them all:
    `evaluator.merge(states)` with `states` gathered from every rank's `evaluator.state()`.
    """

    def __init__(self, ground_truth: dict[str, Any], expected_images: int | None = None, allow_missing: bool = False):
        self.ground_truth = ground_truth
        self.images = {image["id"]: image for image in ground_truth["images"]}
        self.category_ids = [category["id"] for category in ground_truth["categories"]]
        self.expected_images = max(len(self.images), expected_images or 0)
        self.allow_missing = allow_missing
        self._found: dict[int, np.ndarray] = {}  # image id -> float64 [N, 6]: x, y, w, h, score, category id

    @property
    def seen_images(self) -> int:
        return len(self._found)

    def add(self, outputs: list[dict[str, Tensor]], batch: Scored) -> None:
        """Take `Detector` outputs: per image boxes [N, 4] xyxy in pixels of `batch.x`, scores [N], labels [N].

        Boxes are mapped back to the original image and clipped to it. A box entirely outside becomes empty and
        stays, as a false positive. An image seen before (samplers pad the last batch) is ignored the second time, and
        so is an event window without a label.
        ValueError for an output that is not finite, a label without category, or an image the truth does not list.
        """
        if len(outputs) != len(batch.image_ids):
            raise UserError(f"{len(outputs)} outputs for a batch of {len(batch.image_ids)} images")
        for output, target, image_id, size, placement in zip(
            outputs, batch.targets, batch.image_ids, batch.original_sizes, batch.placements, strict=True
        ):
            if target is None:
                continue
            if image_id not in self.images:
                raise UserError(f"the ground truth has no image {image_id}. Evaluate the split it was made from")
            if image_id not in self._found:
                boxes = placement.to_original(output["boxes"].detach().cpu().double())
                self._found[image_id] = self._rows(image_id, size, boxes, output["scores"], output["labels"])

    def add_results(self, detections: list[dict[str, Any]]) -> None:
        """Take COCO results of all images, as `write_detections` writes them. Images without results count as seen.

        Boxes are neither mapped nor clipped. UserError as in `coco_ap.check_boxes`.
        """
        check_boxes(self.ground_truth, detections)
        rows: dict[int, list[list[float]]] = {image_id: [] for image_id in self.images}
        for d in detections:
            rows[d["image_id"]].append([*d["bbox"], d["score"], d["category_id"]])
        self._found = {image_id: np.array(r, dtype=np.float64).reshape(-1, 6) for image_id, r in rows.items()}

    def _rows(self, image_id: int, size: tuple[int, int], boxes: Tensor, scores: Tensor, labels: Tensor) -> np.ndarray:
        name = self.images[image_id].get("file_name", image_id)
        scores, labels = scores.detach().cpu().double(), labels.detach().cpu()
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.category_ids):
            raise UserError(
                f"{name}: the model gave labels {int(labels.min())}..{int(labels.max())}, the dataset has "
                f"{len(self.category_ids)} classes. Create the model with num_classes={len(self.category_ids)}"
            )
        bad = ~(boxes.isfinite().all(1) & scores.isfinite() & (boxes[:, 2:] >= boxes[:, :2]).all(1))
        if bad.any():
            i = int(bad.int().argmax())
            raise UserError(
                f"{name}: detection {i} is box {boxes[i].tolist()} (xyxy, original pixels) with score "
                f"{float(scores[i])}; {int(bad.sum())} of {len(boxes)} are not finite or end before they begin. "
                "The weights have diverged, or the checkpoint is not the one the config describes"
            )
        height, width = size
        boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
        sizes = boxes[:, 2:] - boxes[:, :2]
        categories = torch.tensor(self.category_ids, dtype=torch.float64)[labels]
        return torch.cat([boxes[:, :2], sizes, scores[:, None], categories[:, None]], 1).numpy()

    def found(self, image_id: int) -> dict[str, Tensor] | None:
        """Boxes [N, 4] xyxy in original pixels, scores [N], labels [N] of one image; None if it was not seen."""
        if image_id not in self._found:
            return None
        rows = torch.from_numpy(self._found[image_id])
        index = {category: label for label, category in enumerate(self.category_ids)}
        labels = torch.tensor([index[int(category)] for category in rows[:, 5]], dtype=torch.int64)
        boxes = torch.cat([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1)
        return {"boxes": boxes, "scores": rows[:, 4], "labels": labels}

    def state(self) -> list[tuple[int, np.ndarray]]:
        """The detections of this rank, to be gathered: (image id, [N, 6] x, y, w, h, score, category id)."""
        return list(self._found.items())

    def merge(self, states: Iterable[list[tuple[int, np.ndarray]]]) -> None:
        """Add the states of all ranks. Of an image that several ranks saw, the first state counts."""
        for state in states:
            for image_id, rows in state:
                self._found.setdefault(image_id, rows)

    def detections(self) -> list[dict[str, Any]]:
        """COCO results, images in the order of the ground truth, so that ranks and batches make no difference."""
        return [
            {"image_id": image_id, "category_id": int(category), "bbox": [x, y, w, h], "score": score}
            for image_id in self.images
            for x, y, w, h, score, category in self._found.get(image_id, np.empty((0, 6))).tolist()
        ]

    def truth_and_detections(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The ground truth of the images seen, and their detections."""
        truth = self.ground_truth
        if self.seen_images < len(self.images):
            truth = {
                **truth,
                "images": [image for image in truth["images"] if image["id"] in self._found],
                "annotations": [a for a in truth["annotations"] if a["image_id"] in self._found],
            }
        return truth, self.detections()

    def score(self, protocol: str) -> dict[str, Any]:
        """`Protocol.score` of everything seen, with `protocol`, `rule` and three counts beside it: `images` seen,
        `expected_images` that the labels list, and the `evaluated_images` that the protocol scored.

        AP and AR are None if no box counts under the protocol. UserError if an image was not seen, unless
        `allow_missing`: then only the seen images are scored.
        """
        rules = get_protocol(protocol)
        missing = [image for image_id, image in self.images.items() if image_id not in self._found]
        if self.seen_images < self.expected_images and not self.allow_missing:
            names = ", ".join(str(image.get("file_name", image["id"])) for image in missing[:3])
            raise UserError(
                f"seen {self.seen_images} of {self.expected_images} images, so this AP would not be the split's. "
                f"Missing: {names + (' ...' if len(missing) > 3 else '') or 'files that the labels list'}. "
                "Run over the whole split and restore absent files, or pass --allow-missing to score what was seen"
            )
        scores = rules.score(*self.truth_and_detections())
        if not scores["boxes"]:  # undefined: 0 would look like a bad detector
            scores = {key: None if key.startswith("A") else value for key, value in scores.items()}
        return {
            "protocol": rules.name,
            "rule": rules.rule,
            **scores,
            "images": self.seen_images,
            "expected_images": self.expected_images,
            "evaluated_images": scores["images"],
        }
