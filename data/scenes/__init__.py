"""Synthetic traffic scenes with exact labels, as simulated event recordings (`scenes`) and images (`scene_images`)."""

from registry import import_modules

from .clip import render_clip
from .dvs import DvsSimulator
from .generate import generate_scenes
from .scene import Scene
from .settings import Settings, read_settings
from .shapes import CLASSES

__all__ = ["CLASSES", "DvsSimulator", "Scene", "Settings", "generate_scenes", "read_settings", "render_clip"]

import_modules(__name__, __path__)
