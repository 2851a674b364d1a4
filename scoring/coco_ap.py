"""COCO average precision of boxes, by faster-coco-eval (imported here only), and the check of boxes before scoring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from registry import UserError

AREAS = ("all", "small", "medium", "large")  # order of the evaluator: any, < 32^2, 32^2..96^2, > 96^2 pixels


def coco_ap(
    ground_truth: dict[str, Any], detections: list[dict[str, Any]], max_dets: int = 100
) -> dict[str, float | None | dict[str, float | None]]:
    """AP and AR of `detections` (COCO results: image_id, category_id, bbox xywh, score) against a COCO dict.

    Returns, as fractions of 1:
        AP, AP50, AP75                      mean over classes (AP: and over IoU 0.5, 0.55 .. 0.95)
        AP_small, AP_medium, AP_large       the same for truth of that area
        AR, AR_1, AR_10                     recall with at most `max_dets`, 1, 10 detections per image and class
        AR_small, AR_medium, AR_large
        per_class, per_class_AP50           {class name: AP}

    AP, AP50, AP75 and AR are 0 where there is no truth at all, as RVT has it (pycocotools: -1). The other entries are
    None where there is no truth of that class or area. A missing `area` is w * h, a missing `iscrowd` 0; COCO has no
    `difficult`: such boxes count like others. Inputs are not changed, annotation ids play no role.
    UserError as in `check_boxes`.
    """
    check_boxes(ground_truth, detections)
    if max_dets < 1:
        raise UserError(f"max_dets is {max_dets}: at least one detection per image must count")
    levels = sorted({1, min(10, max_dets), max_dets})
    precision, recall = _accumulate(ground_truth, detections, levels)
    top = len(levels) - 1
    names = [c["name"] for c in sorted(ground_truth["categories"], key=lambda c: c["id"])]

    scores: dict[str, Any] = {
        "AP": _mean(precision[:, :, :, 0, top]) or 0.0,
        "AP50": _mean(precision[:1, :, :, 0, top]) or 0.0,
        "AP75": _mean(precision[5:6, :, :, 0, top]) or 0.0,
        "AR": _mean(recall[:, :, 0, top]) or 0.0,
        "AR_1": _mean(recall[:, :, 0, 0]),
        "AR_10": _mean(recall[:, :, 0, levels.index(min(10, max_dets))]),
    }
    for k, area in enumerate(AREAS[1:], start=1):
        scores[f"AP_{area}"] = _mean(precision[:, :, :, k, top])
        scores[f"AR_{area}"] = _mean(recall[:, :, k, top])
    scores["per_class"] = {name: _mean(precision[:, :, c, 0, top]) for c, name in enumerate(names)}
    scores["per_class_AP50"] = {name: _mean(precision[:1, :, c, 0, top]) for c, name in enumerate(names)}
    return scores


def coco_ap_within(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    ranges: dict[str, tuple[float, float]],
    size: Callable[[dict[str, Any]], float],
    max_dets: int = 100,
) -> dict[str, dict[str, float | None]]:
    """{name: AP and AP50 of the truth whose `size` is within its range, ends included}, as `coco_ap` has them by area:
    other truth, and detections of another size that match nothing, are ignored. None where there is no truth."""
    check_boxes(ground_truth, detections)
    precision, _ = _accumulate(ground_truth, detections, [max_dets], size, ranges)
    return {
        name: {"AP": _mean(precision[:, :, :, k, 0]), "AP50": _mean(precision[:1, :, :, k, 0])}
        for k, name in enumerate(ranges)
    }


def best_of_each_image(detections: list[dict[str, Any]], max_dets: int = 100) -> list[dict[str, Any]]:
    """The `max_dets` detections of highest score per image and class, as `coco_ap` counts them, in the order given."""
    if not detections:
        return []
    image, category, score = (np.array([d[key] for d in detections]) for key in ("image_id", "category_id", "score"))
    order = np.lexsort((-score, category, image))  # stable: equal scores stay in the order given
    first = np.r_[True, (np.diff(image[order]) != 0) | (np.diff(category[order]) != 0)]
    position = np.arange(len(order))
    rank = position - np.maximum.accumulate(np.where(first, position, 0))
    return [detections[i] for i in np.sort(order[rank < max_dets])]


def _accumulate(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    levels: list[int],
    size: Callable[[dict[str, Any]], float] | None = None,
    ranges: dict[str, tuple[float, float]] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Precision [IoU 10, recall 101, class, range, level] and recall [IoU, class, range, level]; -1 without truth.

    The ranges are those of `AREAS`, or `ranges` of the `size` of a box."""
    images = [{"id": int(image["id"])} for image in ground_truth["images"]]
    categories = [{"id": int(c["id"]), "name": c["name"]} for c in ground_truth["categories"]]
    shape = (10, 101, len(categories), len(ranges or AREAS), len(levels))
    if not images or not categories:
        return np.full(shape, -1.0), np.full(shape[:1] + shape[2:], -1.0)
    # Copies, because the evaluator writes into its inputs. Ids from 1, because it reads a match with id 0 as no match.
    # The evaluator compares the `area` of both with the ranges.

    def area(box: dict[str, Any]) -> float | None:
        return box.get("area") if size is None else size(box)

    truth = [_record(i, a, area(a), a.get("iscrowd", 0)) for i, a in enumerate(ground_truth["annotations"], 1)]
    found = [
        _record(i, d, size(d) if size else None, 0) | {"score": float(d["score"])} for i, d in enumerate(detections, 1)
    ]

    sides = [COCO({"images": images, "categories": categories, "annotations": side}) for side in (truth, found)]
    evaluation = COCOeval_faster(*sides, iouType="bbox", print_function=lambda *_: None)
    evaluation.params.maxDets = levels
    if ranges:
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(r) for r in ranges.values()], list(ranges)
    evaluation.evaluate()
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"]).reshape(shape)
    return precision, np.asarray(evaluation.eval["recall"]).reshape(shape[:1] + shape[2:])


def _record(number: int, box: dict[str, Any], area: float | None, iscrowd: int) -> dict[str, Any]:
    x, y, w, h = (float(v) for v in box["bbox"])
    return {
        "id": number,
        "image_id": int(box["image_id"]),
        "category_id": int(box["category_id"]),
        "bbox": [x, y, w, h],
        "area": w * h if area is None else float(area),
        "iscrowd": int(iscrowd),
    }


def _mean(values: np.ndarray) -> float | None:
    """Mean of the defined values; -1 stands for "no truth"."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def check_boxes(ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> None:
    """ValueError naming the record for a box or score that is not finite, a negative width or height, truth without
    area, an image or category that `ground_truth` does not list, or ids listed twice. Evaluators drop or miscount such
    records silently.
    """
    known = {}
    for key in ("images", "categories"):
        ids = [int(item["id"]) for item in ground_truth[key]]
        known[key] = set(ids)
        if len(known[key]) < len(ids):
            raise UserError(f"ground truth lists {len(ids)} {key} under {len(known[key])} ids: make the ids unique")
    for kind, records in (("annotation", ground_truth["annotations"]), ("detection", detections)):
        _check_records(kind, records, known)


def _check_records(kind: str, records: list[dict[str, Any]], known: dict[str, set[int]]) -> None:
    for i, record in enumerate(records):
        where = f"{kind} {i} on image {record['image_id']}"
        if record["image_id"] not in known["images"]:
            raise UserError(f"{where}: the ground truth has no such image. Score against the split that was predicted")
        if record["category_id"] not in known["categories"]:
            raise UserError(
                f"{where}: category {record['category_id']} is not in the ground truth, which has "
                f"{sorted(known['categories'])}. Map labels back to the dataset's category ids"
            )
    if not records:
        return
    boxes = np.array([record["bbox"] for record in records], dtype=np.float64).reshape(len(records), 4)
    empty = (boxes[:, 2:] == 0).any(1)
    if kind == "annotation" and empty.any():
        i = int(empty.argmax())
        raise UserError(
            f"annotation {i} on image {records[i]['image_id']}: bbox {records[i]['bbox']} has no area: nothing can "
            f"match it ({int(empty.sum())} of {len(records)} are so). Remove it, or give its true size"
        )
    bad = ~np.isfinite(boxes).all(1) | (boxes[:, 2:] < 0).any(1)
    if kind == "detection":
        bad |= ~np.isfinite(np.array([record["score"] for record in records], dtype=np.float64))
    if bad.any():
        i = int(bad.argmax())
        score = f", score {records[i]['score']}" if kind == "detection" else ""
        raise UserError(
            f"{kind} {i} on image {records[i]['image_id']}: bbox {records[i]['bbox']}{score}: must be finite xywh with "
            f"w, h >= 0 ({int(bad.sum())} of {len(records)} are not). A diverged model gives such numbers"
        )
