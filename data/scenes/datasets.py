"""Datasets of synthetic scenes, generated on first use: event recordings (`scenes`) and images (`scene_images`)."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

from registry import UserError, reject_unknown

from ..events.gen1 import Gen1
from ..images.coco import Coco
from ..registry import register_dataset
from . import Settings, generate_scenes, read_settings
from .settings import MANIFEST


def make_scenes(root: str | Path, scenes: dict[str, Any] | None) -> None:
    """Generate the scenes in the folder `root` unless they exist. scenes: arguments of `generate_scenes`; None: keep
    any existing scenes, otherwise use the defaults.
    """
    if scenes is not None or not (Path(root) / MANIFEST).is_file():
        generate_scenes(root, **{"workers": os.cpu_count() or 1, **_known(scenes)})


def standing_scenes(root: str | Path, scenes: dict[str, Any] | None) -> Settings:
    """Settings of the existing scenes in `root`. UserError where there are none, or where they differ from `scenes`."""
    try:
        found = read_settings(root)
    except FileNotFoundError:
        remedy = "Train with this config, or run python -m tools.make_scenes, or set data.root to a folder of scenes"
        raise UserError(f"{root}: has no scenes, and evaluation generates none. {remedy}") from None
    if scenes is not None:
        wanted = Settings(**{k: v for k, v in _known(scenes).items() if k != "workers"}).as_dict()
        there = found.as_dict()
        if others := [f"{k} is {there[k]}, not {v}" for k, v in wanted.items() if there[k] != v]:
            remedy = "Set data.root to the folder of these, or data.args.scenes=null to take the scenes that are there"
            raise UserError(f"{root}: holds other scenes than data.args.scenes: {', '.join(others)}. {remedy}")
    return found


def _known(scenes: dict[str, Any] | None) -> dict[str, Any]:
    options = dict(scenes or {})
    reject_unknown(options, list(inspect.signature(generate_scenes).parameters)[1:], "the scenes' generator")
    return options


@register_dataset("scenes")
class Scenes(Gen1):
    """Event recordings of synthetic traffic in Gen1's files. Arguments of `Gen1`, and `scenes`.

    The names of the classes are those of the scenes.
    """

    def __init__(self, split: str, *, root: str | Path, scenes: dict[str, Any] | None = None, **gen1: Any):
        settings = standing_scenes(root, scenes)
        super().__init__(split, root=root, **{"classes": settings.classes, **gen1})

    @classmethod
    def generate(  # type: ignore[override]
        cls, *, root: str | Path, scenes: dict[str, Any] | None = None, **_: Any
    ) -> None:
        make_scenes(root, scenes)


@register_dataset("scene_images")
class SceneImages(Coco):
    """The same scenes as photographs, at the label times. Arguments of `Coco`, and `scenes`."""

    def __init__(self, split: str, *, root: str | Path, scenes: dict[str, Any] | None = None, **coco: Any):
        standing_scenes(root, scenes)
        super().__init__(split, root=root, **coco)

    @classmethod
    def generate(  # type: ignore[override]
        cls, *, root: str | Path, scenes: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if not (scenes or {}).get("pictures", True):
            raise UserError("scenes: pictures = False: the dataset 'scene_images' needs images. Leave it out")
        make_scenes(root, scenes)
