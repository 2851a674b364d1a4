"""Digests of ground truth and weights, to check that detections are scored against the data they were made for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from registry import UserError


def fingerprint(ground_truth: dict[str, Any]) -> str:
    """16 hex digits that depend on ids, files and label times of the images, on boxes with their flags, and on classes.

    They do not depend on the location of the dataset, on the order of the lists, or on the ids of annotations.
    """
    images = sorted(
        [
            int(i["id"]),
            str(i.get("file_name", "")),
            str(i.get("clip", "")),
            int(i.get("t_us", -1)),
            int(i.get("start_us", 0)),
        ]
        for i in ground_truth["images"]
    )
    classes = sorted([int(c["id"]), c["name"]] for c in ground_truth["categories"])
    rows = [
        [a["image_id"], a["category_id"], *a["bbox"], a.get("iscrowd") or 0, a.get("difficult") or 0]
        for a in ground_truth["annotations"]
    ]
    boxes = np.array(rows, dtype="<f8").reshape(-1, 8) + 0.0  # no -0.0
    boxes = boxes[np.lexsort(boxes.T[::-1])]
    digest = hashlib.sha256(json.dumps([images, classes]).encode())
    digest.update(boxes.tobytes())
    return digest.hexdigest()[:16]


def describe(ground_truth: dict[str, Any], split: str) -> dict[str, Any]:
    """split, number of images and boxes, classes and fingerprint of a truth, for metrics.json."""
    return {
        "split": split,
        "images": len(ground_truth["images"]),
        "boxes": len(ground_truth["annotations"]),
        "classes": [c["name"] for c in ground_truth["categories"]],
        "fingerprint": fingerprint(ground_truth),
    }


def weights_digest(state: dict[str, torch.Tensor]) -> str:
    """16 hex digits that depend on the name, type, shape and bits of every tensor."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def check_same_data(detections: Path, data: dict[str, Any]) -> str:
    """Compare `data` (from `describe`) with the metrics.json beside `detections`. Returns the result as one line.

    UserError naming both if they differ: image ids of two splits overlap, so the AP would mean nothing.
    """
    metrics = detections.with_name("metrics.json")
    try:
        content = json.loads(metrics.read_text())
        made_of, known = content["data"], content["data"]["fingerprint"]
        made = "checkpoint" in content["request"]  # else these detections, or others, were only scored
    except (OSError, ValueError, TypeError, KeyError):
        made = False
    if not made:
        return f"not checked: no metrics.json of a checkpoint's evaluation lies beside {detections.name}"
    if known == data["fingerprint"]:
        return f"the same as in {metrics}"
    raise UserError(
        f"{detections}: these are detections on {_words(made_of)}, as {metrics} says, and the truth is {_words(data)}. "
        "Give the truth they were made for: --split, data.root, or --truth with the annotations.json beside them. To "
        "score them against corrected labels, copy them to a folder of their own"
    )


def _words(data: dict[str, Any]) -> str:
    counts = f"{data.get('images')} images, {data.get('boxes')} boxes"
    return f"split {data.get('split')!r} ({counts}, fingerprint {data.get('fingerprint')})"
