"""Helper: a folder with the configs, data and runs that the commands of pages take for granted."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from pages import ROOT, TINY, configs_shown, make_files
from PIL import Image
from recording_files import write_bin
from rvt_folder import write_sequence
from small_commands import VALUES, small
from untrained import EVENTS, untrained_run

from data.images.video import VideoWriter
from data.recordings import write_boxes, write_dat
from data.recordings.boxes import BOX_DTYPE
from data.scenes import generate_scenes

IMAGES = {"data": "name: scene_images", "protocol": "coco"}
RUNS = {  # those of STAND_INS: arguments of `untrained_run`
    "sequence": {"data": EVENTS % ", sampling: sequential, window_ms: 100", "protocol": "raw"},
    "events": {"data": EVENTS % "", "protocol": "raw"},
    "integers": {**IMAGES, "model": "spikeyolo_n", "head": "dfl", "neuron": "{name: ilif, D: 4}"},
    "ann": {**IMAGES, "model": "spiking_yolov3", "neuron": "relu"},
    "images": IMAGES,
}


def make_place(folder: Path) -> Path:
    """`folder` with the configs, also those that pages show, scenes, photographs and recordings in every layout."""
    make_files(folder)
    shutil.copytree(ROOT / "configs", folder / "configs")
    for name, text in configs_shown().items():
        (folder / name).write_text(text)
    scenes = generate_scenes(folder / "scenes" / "demo", **yaml.safe_load(TINY))
    _coco(folder / "coco", scenes)
    _voc_devkit(folder / "VOCdevkit", folder / "BCCD_Dataset" / "BCCD")
    _ncaltech101(folder / "ncaltech101")
    _one_mpx(folder / "one_mpx")
    for split in ("train", "val", "test"):
        write_sequence(folder / "rvt" / split / "clip", {12: [(4, 2, 26, 20, 1), (0, 0, 30, 20, 0)]}, count=14)
    (folder / "photos").mkdir()
    shutil.copy(folder / "photo.jpg", folder / "photos")
    with VideoWriter(folder / "street.mp4", 12.0) as video:
        for _ in range(2):
            video.write(np.array(Image.open(folder / "photo.jpg").resize((96, 64))))
    return folder


def _coco(root: Path, scenes: Path) -> None:
    """As COCO 2017: the images of scenes, `val` also in the place of the test split."""
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        shutil.copy(scenes / "annotations" / f"{split}.json", root / "annotations" / f"instances_{split}2017.json")
        shutil.copytree(scenes / "images" / split, root / f"{split}2017")


def _voc_devkit(root: Path, voc: Path) -> None:
    """As VOC's two years, from a folder in VOC's layout."""
    for year in ("VOC2007", "VOC2012"):
        shutil.copytree(voc, root / year)
        lists = root / year / "ImageSets" / "Main"
        shutil.copy(lists / "train.txt", lists / "trainval.txt")


def _ncaltech101(root: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(1, 11):
        for kind in ("Caltech101", "Caltech101_annotations"):
            (root / kind / "anchor").mkdir(parents=True, exist_ok=True)
        t = np.sort(rng.integers(0, 300_000, 3000))
        columns = (rng.integers(0, n, len(t)) for n in (240, 180, 2))
        write_bin(root / "Caltech101" / "anchor" / f"image_{number:04d}.bin", t, *columns)
        corners = np.array([2, 3, 10, 20, 10, 150, 100, 150], "<i2")
        corners.tofile(root / "Caltech101_annotations" / "anchor" / f"annotation_{number:04d}.bin")


def _one_mpx(root: Path) -> None:
    """At the width that its protocol asks for, labelled at 60 Hz."""
    times = np.arange(16_667, 700_000, 16_667)
    boxes = np.array([(t, 100, 80, 128, 96, k, k, 1.0) for t in times for k in (0, 2)], BOX_DTYPE)
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        (root / split).mkdir(parents=True)
        t = np.sort(rng.integers(0, 700_000, 60_000))  # few would leave BatchNorm without variance
        columns = (rng.integers(0, n, len(t)) for n in (1280, 720, 2))
        write_dat(root / split / "clip_td.dat", t, *columns, 1280, 720)
        write_boxes(root / split / "clip_bbox.npy", boxes)


def stand_in(words: tuple[str, ...], place: Path, command: Callable) -> None:
    """Makes the runs, and what lies in them, that a command reads, where they do not exist."""
    read = [word for k, word in enumerate(words) if "=runs/" in word or (word.startswith("runs/") and k < 4)]
    for word in read:
        (name,) = re.findall(r"runs/([\w-]+)", word)
        if not (place / "runs" / name).exists():
            if arguments := RUNS.get(name):
                (place / "runs").mkdir(exist_ok=True)
                untrained_run(place / "runs" / name, place / "scenes" / "demo", **arguments)
            else:
                twin = ("train.py", VALUES["CONFIG"], "model.neuron=silu")
                assert command(*small(twin, place), f"name={name}").returncode == 0
        if word.endswith("/converted.pt") and not (place / word).exists():
            assert command("convert.py", f"runs/{name}").returncode == 0
        if "/eval/" in word and not (place / word).exists():
            assert command("evaluate.py", f"runs/{name}").returncode == 0
