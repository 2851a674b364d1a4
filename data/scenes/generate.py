"""Generate synthetic scenes on disk (`generate_scenes`): recordings in the layout of Gen1, images with COCO labels."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.io import write_png

from registry import UserError

from ..recordings import DatWriter
from ..recordings.boxes import BOX_DTYPE, write_boxes
from .clip import render_clip
from .settings import MANIFEST, SPLITS, Settings, read_settings

log = logging.getLogger(__name__)

CACHE = ".spikesight_cache"  # image cache of the old scenes, see data.images.cache
_REPORT_S = 10.0  # seconds between progress messages


def generate_scenes(
    root: str | Path,
    *,
    train: int = Settings.train,
    val: int = Settings.val,
    test: int = Settings.test,
    seconds: float = Settings.seconds,
    seed: int = Settings.seed,
    label_hz: float = Settings.label_hz,
    train_label_hz: float = Settings.train_label_hz,
    width: int = Settings.width,
    height: int = Settings.height,
    classes: Sequence[str] = Settings.classes,
    max_objects: int = Settings.max_objects,
    arrivals: float = Settings.arrivals,
    speed: float = Settings.speed,
    max_pan: float = Settings.max_pan,
    min_side: int = Settings.min_side,
    dt_ms: float = Settings.dt_ms,
    threshold: float = Settings.threshold,
    sigma: float = Settings.sigma,
    refractory_us: int = Settings.refractory_us,
    noise_hz: float = Settings.noise_hz,
    leak_hz: float = Settings.leak_hz,
    hot_pixels: float = Settings.hot_pixels,
    hot_pixel_hz: float = Settings.hot_pixel_hz,
    pictures: bool = Settings.pictures,
    workers: int = 1,
) -> Path:
    """Write `train` + `val` + `test` clips of `seconds` under `root`, and return it.

        root/{train,val,test}/scene_0000_td.dat, scene_0000_bbox.npy      as Gen1
        root/images/{train,val,test}/*.png, root/annotations/*.json       the same label times, as COCO, with `pictures`
        root/manifest.json                                                the settings

    docs/scenes.md explains the options. The result does not depend on the number of `workers`. A folder whose manifest
    has these settings is left unchanged. In one with other settings the scenes are replaced, and other files are kept.
    UserError for any other folder that is not empty.
    """
    options = {name: value for name, value in locals().items() if name not in ("root", "workers")}
    root, settings = Path(root).resolve(), Settings(**options)
    if not (why := _lacking(root, settings)):
        return root
    if (root / MANIFEST).exists():
        log.warning("%s: replacing the scenes there: %s", root, why)
    else:
        log.info("%s: making scenes: %s", root, why)
    root.parent.mkdir(parents=True, exist_ok=True)
    # Write to a temporary folder beside it, and rename that when it is complete.
    partial_root = Path(tempfile.mkdtemp(prefix=f"{root.name}.partial-", dir=root.parent))
    try:
        totals = _write_all(partial_root, settings, workers)
        text = json.dumps({"settings": settings.as_dict(), "classes": settings.classes, "totals": totals}, indent=2)
        (partial_root / MANIFEST).write_text(text + "\n")
        partial_root.chmod(0o755)  # mkdtemp creates private folders
        if not _lacking(root, settings):  # another process generated the same scenes meanwhile
            return root
        _put_in_place(partial_root, root)
    finally:
        shutil.rmtree(partial_root, ignore_errors=True)
    return root


def _put_in_place(new: Path, root: Path) -> None:
    """Rename `new` to `root`, replacing the scenes there; other files of the old folder are moved into it."""
    if not (root / MANIFEST).is_file():  # nothing, or an empty folder
        os.replace(new, root)
        return
    settings = read_settings(root)
    old = new.with_name(f"{new.name}.old")
    os.replace(root, old)
    os.replace(new, root)
    shutil.rmtree(old / CACHE, ignore_errors=True)
    kept = []
    for path in sorted(p for p in old.rglob("*") if p.is_symlink() or not p.is_dir()):
        place = path.relative_to(old)
        if _is_of_scenes(place, settings):
            path.unlink()
        elif not os.path.lexists(root / place):
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, root / place)
            kept.append(place.as_posix())
    for folder in sorted((p for p in old.rglob("*") if not p.is_symlink()), reverse=True):  # deepest first
        with suppress(OSError):
            folder.rmdir()
    with suppress(OSError):
        old.rmdir()
    if kept:
        log.warning("%s: kept %d files that are not of the scenes: %s", root, len(kept), ", ".join(kept[:3]))
    if old.exists():
        log.warning("%s: holds what the new scenes have no place for", old)


def _is_of_scenes(place: Path, settings: Settings) -> bool:
    """Whether the generator wrote the file `place`, relative to the root, for these settings."""
    pattern = r"(?:images/)?(train|val|test)/scene_(\d{4,})_(?:td\.dat|bbox\.npy|\d{9,}\.png)"
    if clip := re.fullmatch(pattern, place.as_posix()):
        return int(clip[2]) < getattr(settings, clip[1])
    return place.as_posix() in {MANIFEST, *(f"annotations/{split}.json" for split in SPLITS)}


def _lacking(root: Path, settings: Settings) -> str:
    """Why `root` does not have these scenes; "" where it does. UserError where it has other files and no manifest."""
    if not (root / MANIFEST).is_file():
        if root.exists() and any(root.iterdir()):
            remedy = "Name a new folder, or empty it"
            raise UserError(f"{root}: is not empty and has no manifest.json of make_scenes. {remedy}")
        return "nothing is there yet"
    found = read_settings(root).as_dict()
    changed = [f"{k} was {found[k]}, is {v}" for k, v in settings.as_dict().items() if found[k] != v]
    if not changed and not _complete(root, settings):
        return "files are missing"
    return ", ".join(changed)


def _complete(root: Path, settings: Settings) -> bool:
    needed = [root / split / f"{_stem(i)}{end}" for split, i in settings.clips() for end in ("_td.dat", "_bbox.npy")]
    if settings.pictures:
        needed += [root / "annotations" / f"{split}.json" for split in SPLITS]
    return all(path.is_file() for path in needed)


def _stem(index: int) -> str:
    return f"scene_{index:04d}"


def _write_all(root: Path, settings: Settings, workers: int) -> dict[str, dict[str, int]]:
    for split in SPLITS:
        (root / split).mkdir()
        if settings.pictures:
            (root / "images" / split).mkdir(parents=True)
    jobs = settings.clips()
    write = partial(_write_clip, root, settings)
    if workers > 1 and len(jobs) > 1:
        with ProcessPoolExecutor(min(workers, len(jobs)), multiprocessing.get_context("spawn")) as pool:
            clips = _reported(pool.map(write, jobs), len(jobs))
    else:
        clips = _reported(map(write, jobs), len(jobs))

    totals = {}
    for split in SPLITS:
        mine = [clip for (s, _), clip in zip(jobs, clips, strict=True) if s == split]
        images = [image for clip in mine for image in clip["images"]]
        if settings.pictures:
            (root / "annotations").mkdir(exist_ok=True)
            (root / "annotations" / f"{split}.json").write_text(json.dumps(_coco(images, settings)))
        boxes = sum(len(image["truth"]) for image in images)
        totals[split] = {"events": sum(clip["events"] for clip in mine), "images": len(images), "boxes": boxes}
    return totals


def _reported(clips: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """List of all `clips`; logs the progress."""
    made: list[dict[str, Any]] = []
    events, said = 0, time.monotonic()
    for clip in clips:
        made.append(clip)
        events += clip["events"]
        if time.monotonic() - said > _REPORT_S:
            said = time.monotonic()
            log.info("%d of %d clips, %.1f M events, %.2f GB", len(made), count, events / 1e6, events * 8e-9)
    return made


def _write_clip(root: Path, settings: Settings, job: tuple[str, int]) -> dict[str, Any]:
    """Simulate one clip and write its files; returns the number of events, and file name and boxes per image."""
    split, index = job
    scene, steps = render_clip(settings, split, index)
    stem = _stem(index)
    with DatWriter(root / split / f"{stem}_td.dat", settings.width, settings.height) as recording:
        for events in steps:
            recording.write(events)

    rows: list[tuple[Any, ...]] = []
    images: list[dict[str, Any]] = []
    for t_us in settings.label_times(split):
        frame = scene.render(t_us * 1e-6)
        truth = scene.truth(frame)
        rows += [(t_us, *box, kind, track, 1.0) for track, kind, box in truth]
        name = f"{stem}_{t_us:09d}.png"
        images.append({"file_name": name, "truth": truth})
        if settings.pictures:
            image = torch.from_numpy(scene.image(frame))
            # Level 1 is six times as fast as the default here, and 3 % larger.
            write_png(image, str(root / "images" / split / name), compression_level=1)
    write_boxes(root / split / f"{stem}_bbox.npy", np.array(rows, BOX_DTYPE), old=True)
    return {"events": recording.events, "images": images}


def _coco(drawn: list[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(drawn, 1):
        size = {"width": settings.width, "height": settings.height}
        images.append({"id": image_id, "file_name": image["file_name"], **size})
        for track, kind, (x, y, w, h) in image["truth"]:
            box = {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, "track_id": track}
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, "category_id": kind + 1, **box})
    categories = [{"id": k, "name": name} for k, name in enumerate(settings.classes, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}
