"""The embedded datasets: synthetic moving scenes, made on first use, as event recordings and as pictures."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

from .coco import Coco
from .gen1 import Gen1
from .names import reject_unknown
from .registry import register_dataset
from .synthetic import generate_scenes, read_settings


def make_scenes(root: str | Path, scenes: dict[str, Any] | None) -> Path:
    """The folder of the scenes, made now if it does not stand; `scenes` holds arguments of `generate_scenes`."""
    options = {"workers": os.cpu_count() or 1, **(scenes or {})}
    reject_unknown(options, list(inspect.signature(generate_scenes).parameters)[1:], "the scenes' generator")
    return generate_scenes(root, **options)


@register_dataset("scenes")
class Scenes(Gen1):
    """Event recordings of synthetic traffic in Gen1's files. Arguments of `Gen1`, and `scenes`.

    The names of the classes are those of the scenes.
    """

    def __init__(self, split: str, *, root: str | Path, scenes: dict[str, Any] | None = None, **gen1: Any):
        root = make_scenes(root, scenes)
        super().__init__(split, root=root, **{"classes": read_settings(root).classes, **gen1})


@register_dataset("scene_images")
class SceneImages(Coco):
    """The same scenes as photographs, at the label times. Arguments of `Coco`, and `scenes`."""

    def __init__(self, split: str, *, root: str | Path, scenes: dict[str, Any] | None = None, **coco: Any):
        if not (scenes or {}).get("pictures", True):
            raise ValueError("scenes: pictures = False leaves nothing for the dataset 'scene_images'. Leave it out")
        super().__init__(split, root=make_scenes(root, scenes), **coco)
