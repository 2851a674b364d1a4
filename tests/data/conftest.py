"""Fixtures: small datasets on disk, noise images with given labels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.io import write_png


@pytest.fixture
def write_image():
    """write_image(path, width, height, seed): noise, so no two images are alike."""

    def write(path: Path, width: int = 40, height: int = 30, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (3, height, width), np.uint8)
        write_png(torch.from_numpy(pixels), str(path))
        return path

    return write


@pytest.fixture
def coco_folder(tmp_path, write_image):
    """coco_folder(split, images={name: [(category id, [x, y, w, h]), ...]}, categories={id: name}) -> root.

    Images are 40x30; the json content goes through `change` before it is written.
    """

    def write(split="train", images=None, categories=None, change=lambda content: None, seed=0) -> Path:
        images = {"a.png": [(1, [2, 3, 10, 12])]} if images is None else images
        content = {"images": [], "annotations": [], "categories": []}
        for k, name in (categories or {1: "cat", 2: "dog"}).items():
            content["categories"].append({"id": k, "name": name})
        for i, (name, boxes) in enumerate(images.items(), 1):
            write_image(tmp_path / split / name, seed=seed + i)
            content["images"].append({"id": i, "file_name": name, "width": 40, "height": 30})
            for category, box in boxes:
                annotation = {"id": len(content["annotations"]) + 1, "image_id": i, "category_id": category}
                content["annotations"].append({**annotation, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
        change(content)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        return tmp_path

    return write


@pytest.fixture
def voc_folder(tmp_path, write_image):
    """voc_folder({split: {stem: [(class, [xmin, ymin, xmax, ymax], difficult), ...]}}) -> root. Images are 40x30."""

    def write(splits, width=40, height=30) -> Path:
        (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
        (tmp_path / "Annotations").mkdir()
        seed = 0
        for split, images in splits.items():
            (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(images) + "\n")
            for stem, boxes in images.items():
                seed += 1
                write_image(tmp_path / "JPEGImages" / f"{stem}.png", seed=seed)
                objects = "".join(
                    f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin>"
                    f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
                    for name, (x1, y1, x2, y2), difficult in boxes
                )
                size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
                text = f"<annotation><filename>other.jpg</filename>{size}{objects}</annotation>"
                (tmp_path / "Annotations" / f"{stem}.xml").write_text(text)
        return tmp_path

    return write


@pytest.fixture
def yolo_folder(tmp_path, write_image):
    """yolo_folder({split: {name: text of the label file, or None for no file}}, yaml=text) -> root.

    Images are 40x30, at images/{split}/{name}.png; no text of `yaml`: one that names the splits and two classes.
    """

    def write(splits, yaml=None) -> Path:
        seed = 0
        for split, images in splits.items():
            (tmp_path / "labels" / split).mkdir(parents=True, exist_ok=True)
            for name, text in images.items():
                seed += 1
                write_image(tmp_path / "images" / split / f"{name}.png", seed=seed)
                if text is not None:
                    (tmp_path / "labels" / split / f"{name}.txt").write_text(text)
        if yaml is None:
            yaml = "names: {0: cat, 1: dog}\n" + "".join(f"{split}: images/{split}\n" for split in splits)
        if yaml:
            (tmp_path / "data.yaml").write_text(yaml)
        return tmp_path

    return write
