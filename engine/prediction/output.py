"""What predict.py writes (`Output`), into a new folder: drawn images or videos, predictions.json, images.json."""

from __future__ import annotations

import json
import os
from collections import Counter
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.io import write_jpeg, write_png

from data.images.video import VideoWriter
from registry import UserError

from .frame import Found, Frame, Part
from .json_stream import JsonStream
from .options import Options

PREDICTIONS, IMAGES, DRAWN = "predictions.json", "images.json", "images"
JPEG = (".jpg", ".jpeg")


def free_folder(wanted: Path | None, checkpoint: Path, name: str) -> Path:
    """`wanted`, or predict/NAME beside the checkpoint, NAME-2 and so on if it is there already. UserError if `wanted`
    holds files."""
    if wanted is None:
        stem, number = checkpoint.parent / "predict" / name, 1
        while (folder := stem if number == 1 else stem.with_name(f"{name}-{number}")).exists():
            number += 1
        require_free(folder)
        return folder
    require_free(wanted)
    return wanted


def require_free(folder: Path) -> None:
    """UserError if `folder` holds files, or cannot be made."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: is a file. Name a new folder")
    held = next(folder.iterdir(), None) if folder.exists() else None
    if held is not None:
        raise UserError(f"--out {folder}: exists and holds files ({held.name}). Name a new folder, or empty it")
    above = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not above.is_dir():
        raise UserError(f"--out {folder}: {above} is a file. Name a folder elsewhere")
    if not os.access(above, os.W_OK):
        raise UserError(f"--out {folder}: {above} cannot be written to. Name a folder elsewhere with --out")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be made ({error.strerror}). Name a folder elsewhere") from error


class Output:
    """Files of a prediction.

    class_names: category ids count them from 1
    about:       plain values, for images.json
    """

    def __init__(self, folder: Path, class_names: list[str], about: dict[str, Any], options: Options):
        self.folder, self.boxes, self.images, self.videos = folder, Counter[str](), 0, 0
        self._names, self._options = class_names, options
        self._taken: set[Path] = set()
        self._video: VideoWriter | None = None
        self._json: tuple[JsonStream, JsonStream] | None = None
        if options.save_json:
            _make(folder)
            categories = [{"id": k, "name": name} for k, name in enumerate(class_names, 1)]
            before = f'{{"info": {json.dumps(about)},\n"categories": {json.dumps(categories)},\n"images": ['
            self._json = JsonStream(folder / PREDICTIONS), JsonStream(folder / IMAGES, before, "]}")

    def add(self, part: Part, frame: Frame, found: Found) -> None:
        if self._json is not None:
            self._write(frame, found)
        if self._options.draw:
            self._keep(part, frame, part.draw(frame, found, self._names, self._options.score))
        self.boxes.update(self._names[label] for label in found.labels.tolist())

    def _write(self, frame: Frame, found: Found) -> None:
        assert self._json is not None
        predictions, images = self._json
        sample = frame.sample
        height, width = sample.original_size
        size = {"width": width, "height": height}
        images.add({"id": sample.image_id, "file_name": frame.name, **size, **frame.about})
        boxes = torch.cat([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], 1).tolist()
        tracks = [-1] * len(boxes) if found.tracks is None else found.tracks.tolist()
        rows = zip(boxes, found.labels.tolist(), found.scores.tolist(), tracks, strict=True)
        for box, label, score, track in rows:
            entry = {"image_id": sample.image_id, "category_id": label + 1, "bbox": box, "score": score}
            predictions.add(entry | ({"track_id": track} if track >= 0 else {}))

    def _keep(self, part: Part, frame: Frame, image: Tensor) -> None:
        moving = part.rate is not None
        if moving if self._options.video is None else self._options.video:
            if self._video is None:
                path = self._free(Path(part.name).with_suffix(".mp4"), Path(f"{part.name}.mp4"))
                self._video = VideoWriter(path, part.rate or self._options.fps)
            try:
                self._video.write(image.permute(1, 2, 0).contiguous().numpy())
            except UserError as error:
                raise UserError(f"{frame.name}: {error}") from error
            return
        names = [Path(part.name if moving else frame.name)]
        if moving:
            number = frame.about.get("frame", frame.about.get("window"))
            end = f"_{number:06d}.{'jpg' if part.unit == 'frame' else 'png'}"
            names = [names[0].with_name(start + end) for start in (names[0].stem, names[0].name)]
        elif names[0].suffix.lower() not in (*JPEG, ".png"):
            names = [names[0].with_name(f"{names[0].name}.png")]
        path = self._free(*(Path(DRAWN) / name for name in names))
        if path.suffix.lower() in JPEG:
            write_jpeg(image, str(path), quality=95)
        else:
            write_png(image, str(path), compression_level=1)
        self.images += 1

    def _free(self, *names: Path) -> Path:
        """The first of `names` below the folder that no file has yet, or the last one with a number; its folder is
        made."""
        last = names[-1]
        numbered = (last.with_name(f"{last.stem}-{k}{last.suffix}") for k in count(2))
        path = next(path for name in chain(names, numbered) if (path := self.folder / name) not in self._taken)
        self._taken.add(path)
        _make(path.parent)
        return path

    def end_part(self) -> None:
        """Close the video of a part."""
        if self._video is not None:
            self._video.close()
            self.videos += self._video.count > 0
            self._video = None

    def close(self, incomplete: str | None = None) -> None:
        """incomplete: why there are not all frames."""
        self.end_part()
        if self._json is not None:
            predictions, images = self._json
            predictions.close()
            images.close(f',\n"incomplete": {json.dumps(incomplete)}' if incomplete else "")
            self._json = None

    def written(self) -> str:
        """What lies in the folder, for the user."""
        counts = {"drawn image": self.images, "video": self.videos}
        parts = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count]
        parts += [name for name in (PREDICTIONS, IMAGES) if (self.folder / name).exists()]
        return f"{self.folder}: {', '.join(parts) or 'nothing'}"
