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
from .synthetic import generate_scenes


def make_scenes(root: str | Path, scenes: dict[str, Any] | None) -> Path:
    """The folder of the scenes, made now if it does not stand; `scenes` holds arguments of `generate_scenes`."""
    options = {"workers": os.cpu_count() or 1, **(scenes or {})}
    reject_unknown(options, list(inspect.signature(generate_scenes).parameters)[1:], "the scenes' generator")
    return generate_scenes(root, **options)


@register_dataset("scenes")
class Scenes(Gen1):
    """Event recordings of synthetic cars and pedestrians in Gen1's files. Arguments of `Gen1`, and `scenes`."""

    def __init__(self, split: str, *, root: str | Path, scenes: dict[str, Any] | None = None, **gen1: Any):
        super().__init__(split, root=make_scenes(root, scenes), **gen1)


@register_dataset("scene_images")
class SceneImages(Coco):
    """The same scenes as photographs, at the label times. Arguments of `Coco`, and `scenes`."""

    def __init__(self, split: str, *, root: str | Path, scenes: dict[str, Any] | None = None, **coco: Any):
        super().__init__(split, root=make_scenes(root, scenes), **coco)
