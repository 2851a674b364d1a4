"""CVAT: annotations of the format "COCO 1.0", and the labels that a task has to declare for them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from registry import UserError

from .source import Source

SUBSET = "default"


def write_cvat(source: Source, images: dict[int, Path], out: Path, url: str) -> list[str]:
    """annotations.zip and labels.json. Returns what to do with them.

    CVAT matches images by their names without suffix, aborts at the first image or label that its task lacks, and
    drops scores: they go into the attribute `score`, which the labels declare. UserError for two images of one stem.
    """
    content = json.dumps(coco_instances(source, images))
    with zipfile.ZipFile(out / "annotations.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"annotations/instances_{SUBSET}.json", content)
    (out / "labels.json").write_text(json.dumps(labels(source), indent=1) + "\n")
    folders = sorted({str(path.parent) for path in images.values()})
    where = ", ".join(folders[:3]) + (" ..." if len(folders) > 3 else "")
    return [
        f"Create a task with the labels of {out / 'labels.json'} (Raw) and the {len(images)} images of {where}, then "
        f"upload {out / 'annotations.zip'} as COCO 1.0"
    ]


def coco_instances(source: Source, images: dict[int, Path]) -> dict[str, Any]:
    """A COCO dict. Images have their names alone; category ids count from 1, as CVAT needs."""
    owner: dict[str, Path] = {}
    for path in images.values():
        if (other := owner.setdefault(path.stem, path)) is not path:
            raise UserError(
                f"{path} and {other}: CVAT matches images by name without suffix and would mix them: rename one, in "
                "the folder that is predicted"
            )
    number = {category["id"]: k for k, category in enumerate(source.categories, 1)}
    empty = {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
    listed = [
        {"id": k, "file_name": images[image["id"]].name, "width": image["width"], "height": image["height"], **empty}
        for k, image in enumerate(source.images, 1)
    ]
    place = {image["id"]: k for k, image in enumerate(source.images, 1)}
    boxes = [
        {
            "id": k,
            "image_id": place[found["image_id"]],
            "category_id": number[found["category_id"]],
            "bbox": found["bbox"],
            "area": found["bbox"][2] * found["bbox"][3],
            "segmentation": [],
            "iscrowd": 0,
            "attributes": {"score": f"{found['score']:.4f}"},
        }
        for k, found in enumerate(source.detections, 1)
    ]
    return {
        "licenses": [{"id": 0, "name": "", "url": ""}],
        "info": {key: "" for key in ("contributor", "date_created", "description", "url", "version", "year")},
        "categories": [{"id": number[c["id"]], "name": c["name"], "supercategory": ""} for c in source.categories],
        "images": listed,
        "annotations": boxes,
    }


def labels(source: Source) -> list[dict[str, Any]]:
    """The label constructor of a task, as text: every class, with an attribute for scores."""
    score = {"name": "score", "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
    return [{"name": c["name"], "type": "rectangle", "attributes": [score]} for c in source.categories]
