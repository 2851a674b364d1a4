"""Label Studio: tasks with one prediction each, and the labelling configuration that they fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from .source import Source

LOCAL_FILES = "/data/local-files/?d="  # Label Studio's own server of files below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT
FROM, TO = "label", "image"  # names of the controls in the configuration


def write_label_studio(source: Source, images: dict[int, Path], out: Path, url: str) -> list[str]:
    """tasks.json and config.xml. Returns what to do with them."""
    names, found = source.names(), source.by_image()
    root = _root(list(images.values()))
    before = f"{url}{quote(root.name)}/" if url == LOCAL_FILES else url + "/" * url[-1:].isalnum()
    version = source.folder.resolve().name
    tasks = []
    for image in source.images:
        address = before + quote(images[image["id"]].resolve().relative_to(root).as_posix())
        results = [region(f"{image['id']}-{k}", d, image, names) for k, d in enumerate(found[image["id"]])]
        prediction = {"model_version": version, "score": _mean(found[image["id"]]), "result": results}
        tasks.append({"data": {"image": address}, "predictions": [prediction]})
    (out / "tasks.json").write_text(json.dumps(tasks) + "\n")
    (out / "config.xml").write_text(configuration(list(names.values())))
    lines = [
        f"Create a project with the labelling configuration {out / 'config.xml'}, then import {out / 'tasks.json'}"
    ]
    if url == LOCAL_FILES:
        lines.append(
            "Start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true "
            f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={root.parent}, and add {root} as local storage of the project"
        )
    return lines


def region(own: str, detection: dict[str, Any], image: dict[str, Any], names: dict[int, str]) -> dict[str, Any]:
    """A rectangle: its upper left corner and size in percent of the image, cut at its borders, and its score."""
    width, height = image["width"], image["height"]
    x, y, w, h = detection["bbox"]
    left, top = min(max(x, 0), width), min(max(y, 0), height)
    right, bottom = min(max(x + w, 0), width), min(max(y + h, 0), height)
    return {
        "id": own,
        "type": "rectanglelabels",
        "from_name": FROM,
        "to_name": TO,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": detection["score"],
        "value": {
            "x": 100 * left / width,
            "y": 100 * top / height,
            "width": 100 * (right - left) / width,
            "height": 100 * (bottom - top) / height,
            "rotation": 0,
            "rectanglelabels": [names[detection["category_id"]]],
        },
    }


def configuration(class_names: list[str]) -> str:
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in class_names)
    return (
        f'<View>\n  <Image name="{TO}" value="$image"/>\n  <RectangleLabels name="{FROM}" toName="{TO}">\n{labels}'
        "  </RectangleLabels>\n</View>\n"
    )


def _mean(found: list[dict[str, Any]]) -> float:
    """The score of an image, by which Label Studio sorts tasks: that of its boxes on average, 0 without one."""
    return sum(detection["score"] for detection in found) / len(found) if found else 0.0


def _root(paths: list[Path]) -> Path:
    """The lowest folder above all files."""
    parents = [path.resolve().parent for path in paths]
    return next(
        folder for folder in (parents[0], *parents[0].parents) if all(p.is_relative_to(folder) for p in parents)
    )
