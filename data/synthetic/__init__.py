"""Synthetic driving scenes for an event camera and a photo camera, with exact labels."""

from .dvs import DvsSimulator
from .generate import generate_scenes
from .scene import Scene

__all__ = ["DvsSimulator", "Scene", "generate_scenes"]
