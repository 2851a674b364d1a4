"""FiftyOne: a COCO dataset of images and truth, and COCO results to be added to it."""

from __future__ import annotations

import json
from pathlib import Path

from .source import Source


def write_fiftyone(source: Source, images: dict[int, Path], out: Path, url: str) -> list[str]:
    """labels.json and predictions.json. Returns what to do with them."""
    listed = [{**image, "file_name": str(images[image["id"]].resolve())} for image in source.images]
    annotations = [{"iscrowd": 0, **annotation} for annotation in source.annotations or []]
    truth = {"info": {}, "licenses": [], "categories": source.categories}
    truth |= {"images": listed, "annotations": annotations}
    (out / "labels.json").write_text(json.dumps(truth) + "\n")
    (out / "predictions.json").write_text(json.dumps(source.detections) + "\n")
    return [f"Open {out / 'labels.json'} and {out / 'predictions.json'} in FiftyOne by the lines in docs/tools.md"]
