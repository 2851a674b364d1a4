"""Scenes on disk: a folder in the layout of Gen1, and the same scenes as pictures with COCO labels."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.io import write_png

from ..events.boxes import BOX_DTYPE, write_boxes
from ..events.dat import Events, write_dat
from .dvs import DvsSimulator
from .scene import Scene
from .shapes import CLASSES

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
VERSION = 2  # raised when the same settings would give other scenes
FIRST_LABEL_US = 249_999  # the first whole window of 250 ms


@dataclass(frozen=True)
class Settings:
    """All that decides what the scenes are. Two folders with equal settings hold the same bytes."""

    train: int
    val: int
    test: int
    seconds: float
    seed: int
    label_hz: float
    train_label_hz: float
    width: int
    height: int
    max_objects: int
    max_pan: float
    dt_ms: float
    threshold: float
    noise_hz: float
    version: int = VERSION

    def label_times(self, split: str) -> list[int]:
        """us: the multiples of the label period less 1, as Gen1 has them, from the first whole window on."""
        hz = self.train_label_hz if split == "train" else self.label_hz
        times = [round(k * 1e6 / hz) - 1 for k in range(1, int(self.seconds * hz + 1e-6) + 1)]
        return [t for t in times if t >= FIRST_LABEL_US]


def generate_scenes(
    root: str | Path,
    *,
    train: int = 32,
    val: int = 8,
    test: int = 16,
    seconds: float = 2.0,
    seed: int = 0,
    label_hz: float = 4.0,
    train_label_hz: float = 20.0,
    width: int = 304,
    height: int = 240,
    max_objects: int = 4,
    max_pan: float = 30.0,
    dt_ms: float = 8.0,
    threshold: float = 0.2,
    noise_hz: float = 0.2,
    workers: int = 1,
) -> Path:
    """Write `train` + `val` + `test` clips of `seconds` under `root`, and return it.

        root/{train,val,test}/scene_0000_td.dat, scene_0000_bbox.npy      as Gen1
        root/images/{train,val,test}/*.png, root/annotations/*.json       the same label times, as COCO
        root/manifest.json                                                the settings

    Labels come at `label_hz`, training labels at `train_label_hz`; `max_pan` is in pixels/s; the picture is drawn every
    `dt_ms`. `workers` processes share the clips; the result does not depend on how many. A folder whose manifest has
    these settings is left as it is; one with others is replaced; ValueError for any other folder that is not empty.
    """
    root = Path(root).resolve()
    settings = Settings(
        train, val, test, float(seconds), seed, float(label_hz), float(train_label_hz), width, height, max_objects,
        float(max_pan), float(dt_ms), float(threshold), float(noise_hz),
    )  # fmt: skip
    _check(settings)
    if not (why := _lacking(root, settings)):
        return root
    log.log(logging.WARNING if (root / "manifest.json").exists() else logging.INFO, "%s: making scenes: %s", root, why)
    root.parent.mkdir(parents=True, exist_ok=True)
    # Everything goes to a folder beside it that takes the name when it is whole: nobody meets half a data set.
    partial_root = Path(tempfile.mkdtemp(prefix=f"{root.name}.partial-", dir=root.parent))
    try:
        totals = _write_all(partial_root, settings, workers)
        text = json.dumps({"settings": asdict(settings), "classes": CLASSES, "totals": totals}, indent=2)
        (partial_root / "manifest.json").write_text(text + "\n")
        partial_root.chmod(0o755)  # mkdtemp's are private
        if not _lacking(root, settings):  # another process was as busy, and faster
            return root
        if root.exists():
            shutil.rmtree(root)
        os.replace(partial_root, root)
    finally:
        shutil.rmtree(partial_root, ignore_errors=True)
    return root


def _check(settings: Settings) -> None:
    for name, low in (("train", 0), ("val", 0), ("test", 0), ("seed", 0), ("max_objects", 1), ("max_pan", 0)):
        if getattr(settings, name) < low:
            raise ValueError(f"{name} = {getattr(settings, name)}: give at least {low}")
    for name in ("label_hz", "train_label_hz", "dt_ms", "threshold"):
        if getattr(settings, name) <= 0:
            raise ValueError(f"{name} = {getattr(settings, name)}: give more than 0")
    if settings.seconds < 0.25:
        raise ValueError(f"seconds = {settings.seconds}: a clip needs one whole window of 0.25 s")
    if min(settings.width, settings.height) < 32:
        raise ValueError(f"{settings.width}x{settings.height}: a scene needs at least 32 pixels each way")


def _lacking(root: Path, settings: Settings) -> str:
    """Why these very scenes are not in `root`: "" where they are. ValueError where `root` is not ours to write."""
    manifest = root / "manifest.json"
    if not manifest.is_file():
        if root.exists() and any(root.iterdir()):
            remedy = "Name a new folder, or empty it"
            raise ValueError(f"{root}: is not empty and has no manifest.json of make_scenes. {remedy}")
        return "nothing is there yet"
    try:
        found = json.loads(manifest.read_text())["settings"]
        changed = [f"{k} was {found.get(k)}, is {v}" for k, v in asdict(settings).items() if found.get(k) != v]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{manifest}: was not written by make_scenes. Name another folder") from error
    if not changed and not _complete(root, settings):
        return "files are missing"
    return ", ".join(changed)


def _complete(root: Path, settings: Settings) -> bool:
    for split in SPLITS:
        stems = [f"scene_{index:04d}" for index in range(getattr(settings, split))]
        needed = [root / split / f"{stem}{end}" for stem in stems for end in ("_td.dat", "_bbox.npy")]
        if not all(path.is_file() for path in [*needed, root / "annotations" / f"{split}.json"]):
            return False
    return True


def _write_all(root: Path, settings: Settings, workers: int) -> dict[str, dict[str, int]]:
    for split in SPLITS:
        (root / split).mkdir()
        (root / "images" / split).mkdir(parents=True)
    (root / "annotations").mkdir()
    jobs = [(split, index) for split in SPLITS for index in range(getattr(settings, split))]
    write = partial(_write_clip, root, settings)
    if workers > 1:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            clips = list(pool.map(write, jobs))
    else:
        clips = [write(job) for job in jobs]

    totals = {}
    for split in SPLITS:
        mine = [clip for (s, _), clip in zip(jobs, clips, strict=True) if s == split]
        pictures = [picture for clip in mine for picture in clip["pictures"]]
        coco = _coco(pictures, settings)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(coco))
        events = sum(clip["events"] for clip in mine)
        totals[split] = {"events": events, "images": len(pictures), "boxes": len(coco["annotations"])}
    return totals


def _write_clip(root: Path, settings: Settings, job: tuple[str, int]) -> dict[str, Any]:
    """Simulate one clip and write its files; returns the number of events, and file name and boxes per picture."""
    split, index = job
    # The key names the split and the clip, so no two clips share a stream, however many there are.
    seeds = np.random.SeedSequence(settings.seed, spawn_key=(SPLITS.index(split), index)).spawn(2)
    scene_rng, camera_rng = (np.random.default_rng(s) for s in seeds)
    scene = Scene(scene_rng, settings.width, settings.height, settings.seconds, settings.max_objects, settings.max_pan)
    stem = f"scene_{index:04d}"
    events = simulate(scene, settings, camera_rng)
    size = settings.width, settings.height
    write_dat(root / split / f"{stem}_td.dat", events.t, events.x, events.y, events.p, *size)

    rows: list[tuple[Any, ...]] = []
    pictures: list[dict[str, Any]] = []
    for t_us in settings.label_times(split):
        frame = scene.render(t_us * 1e-6)
        truth = scene.truth(frame)
        rows += [(t_us, *box, kind, track, 1.0) for track, kind, box in truth]
        name = f"{stem}_{t_us:09d}.png"
        picture = torch.from_numpy(scene.picture(frame))
        # Level 1 is six times as fast as the default here, and 3 % larger.
        write_png(picture, str(root / "images" / split / name), compression_level=1)
        pictures.append({"file_name": name, "truth": truth})
    write_boxes(root / split / f"{stem}_bbox.npy", np.array(rows, BOX_DTYPE), old=True)
    return {"events": len(events), "pictures": pictures}


def simulate(scene: Scene, settings: Settings, rng: np.random.Generator) -> Events:
    """All events of a scene, from 0 to `settings.seconds`."""
    end = round(settings.seconds * 1e6)
    times = [*range(round(settings.dt_ms * 1e3), end, round(settings.dt_ms * 1e3)), end]
    camera = DvsSimulator(scene.render(0.0).intensity, rng, threshold=settings.threshold, noise_hz=settings.noise_hz)
    steps = [camera.step(scene.render(t * 1e-6).intensity, t) for t in times]
    return Events(*(np.concatenate([getattr(s, name) for s in steps]) for name in "txyp"))


def _coco(pictures: list[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, picture in enumerate(pictures, 1):
        size = {"width": settings.width, "height": settings.height}
        images.append({"id": image_id, "file_name": picture["file_name"], **size})
        for track, kind, (x, y, w, h) in picture["truth"]:
            box = {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, "track_id": track}
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, "category_id": kind + 1, **box})
    categories = [{"id": k, "name": name} for k, name in enumerate(CLASSES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}
