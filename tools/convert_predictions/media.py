"""The image of each prediction: a file that is there, or one rendered of a window of a recording."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.io import write_png
from tqdm import tqdm

from analysis.draw import event_image
from data.recordings import EventReader, Events, ShiftedReader, open_events
from data.representations.counts import Counts
from data.sample import Sample
from engine.build import build_dataset
from engine.config import config_from_plain
from engine.runs.checkpoint import load_checkpoint
from engine.runs.fingerprint import fingerprint
from registry import UserError

from .source import Source

RENDERED = "data"  # folder of rendered images
STEPS = 5  # of a window drawn from a recording: older events are darker


def find_images(source: Source, out: Path, root: Path | None, overrides: list[str]) -> dict[int, Path]:
    """{image id: file}. Images of recordings are written into `out`/data, in pixels of the sensor, as boxes are.

    root:      where the files of `source.images` lie; None: the root of the evaluation's dataset, or what was predicted
    overrides: key=value for the config of the run, of whose dataset the windows of an evaluation are
    """
    windows = [image for image in source.images if "t_us" in image]
    if any("frame" in image for image in source.images):
        raise UserError(
            f"{source.folder}: has frames of a video, which other tools would need as images: extract them, and "
            "predict the folder of images"
        )
    if not windows:
        return _files(source, root)
    names = {image["id"]: _name(image) for image in windows}
    if len(set(names.values())) < len(names):  # recordings of one name, in several folders
        names = {image_id: f"{Path(name).stem}_{image_id}.png" for image_id, name in names.items()}
    files = {}
    drawn = _of_dataset(source, overrides) if source.annotations is not None else _of_recordings(source, root)
    for image_id, picture in tqdm(drawn, "rendering", len(windows), unit="window", disable=None):
        files[image_id] = out / RENDERED / names[image_id]
        files[image_id].parent.mkdir(exist_ok=True)
        write_png(picture, str(files[image_id]), compression_level=1)
    return files


def _files(source: Source, root: Path | None) -> dict[int, Path]:
    root = root or _root(source)
    files = {image["id"]: root / image["file_name"] for image in source.images}
    for path in files.values():
        if not path.is_file():
            raise UserError(f"{path}: no such file. Add --images DIR, the folder that {path.name} lies in")
    return files


def _root(source: Source) -> Path:
    """The folder that file names are relative to, as far as `source` says it."""
    where = Path(str(source.info.get("root", source.info.get("source", ""))))
    if not where.exists() or where == Path():
        raise UserError(
            f"{source.folder}: add --images DIR, the folder of the images or recordings that were predicted"
        )
    return where if where.is_dir() else where.parent


def _name(image: dict[str, Any]) -> str:
    clip = image.get("clip", Path(image["file_name"]).stem)
    return f"{str(clip).replace(os.sep, '_')}_{image['t_us']:012d}.png"


def _of_dataset(source: Source, overrides: list[str]) -> Iterator[tuple[int, Tensor]]:
    """The windows that the detector of an evaluation saw, from the dataset of its run."""
    request, data = source.metrics()
    checkpoint = source.folder / request["checkpoint"]
    changes = [f"{key}={value}" for key, (_, value) in request["config_changes"].items() if key.startswith("data.")]
    cfg = config_from_plain(load_checkpoint(checkpoint)["config"], [*changes, *overrides])
    dataset = build_dataset(cfg, request["split"], generate=False, allow_missing=request["allow_missing"])
    if fingerprint(truth := dataset.ground_truth()) != data["fingerprint"]:
        raise UserError(
            f"{source.folder}: its labels are not those of {cfg.data.root} ({len(truth['images'])} label times): name "
            "the data of the evaluation with data.root=..."
        )
    for index in range(len(dataset)):
        sample = dataset[index]
        if sample.labelled:
            yield sample.image_id, on_sensor(_picture(dataset.view(sample.x)), sample)


def _picture(shown: Tensor) -> Tensor:
    """What a dataset shows of a sample as one image uint8 [3, H, W]; of images over time the last one."""
    return shown[-1] if shown.shape[1] == 3 else event_image(shown)


def on_sensor(picture: Tensor, sample: Sample) -> Tensor:
    """An image in pixels of `sample.x` in those of the sensor: of each pixel the nearest."""
    height, width = sample.original_size
    place = sample.placement
    y = ((torch.arange(height) + 0.5) * place.scale_y + place.top).long().clamp(0, picture.shape[1] - 1)
    x = ((torch.arange(width) + 0.5) * place.scale_x + place.left).long().clamp(0, picture.shape[2] - 1)
    return picture[:, y][:, :, x].contiguous()


def _of_recordings(source: Source, root: Path | None) -> Iterator[tuple[int, Tensor]]:
    """The windows that predict.py cut out of recordings, from these."""
    root = root or _root(source)
    reader: EventReader | None = None
    for image in source.images:
        path = root / image["file_name"]
        size = image["height"], image["width"]
        if reader is None or reader.path != path:
            if reader is not None:
                reader.close()
            if not path.is_file():
                raise UserError(f"{path}: no such file. Add --images DIR, the folder that {image['file_name']} lies in")
            reader = open_events(path, size)
            reader = ShiftedReader(reader) if source.info.get("shift_clock") else reader
        yield image["id"], draw_window(reader.read(t0 := image["t_us"] - image["window_us"], image["t_us"]), t0, image)


def draw_window(events: Events, t0_us: int, image: dict[str, Any]) -> Tensor:
    """uint8 [3, H, W] of the events of a window that ends at `image["t_us"]`."""
    counts = Counts(STEPS)(events, t0_us, image["t_us"], image["height"], image["width"])
    return event_image(torch.from_numpy(np.ascontiguousarray(counts)))
