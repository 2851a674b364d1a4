"""Render one clip (`render_clip`): scene and simulated events, determined by settings, split and index."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from registry import UserError

from ..recordings.interface import Events
from .dvs import DvsSimulator
from .scene import Scene
from .settings import SPLITS, Settings


def render_clip(settings: Settings, split: str, index: int) -> tuple[Scene, Iterator[Events]]:
    """(scene of clip `index` of `split`, its events from 0 to `settings.seconds`, one `Events` per simulation step).

    The events equal those in the files. `scene.render(t)` and `scene.truth(frame)` give the ground truth at any time.
    """
    if split not in SPLITS or index < 0:
        raise UserError(f"clip {index} of split {split!r}: give one of {', '.join(SPLITS)}, and an index from 0 on")
    # The spawn key is (split, clip), so no two clips share a random stream, and their number does not matter.
    seeds = np.random.SeedSequence(settings.seed, spawn_key=(SPLITS.index(split), index)).spawn(2)
    scene_rng, camera_rng = (np.random.default_rng(s) for s in seeds)
    scene = Scene(
        scene_rng,
        settings.width,
        settings.height,
        settings.seconds,
        settings.max_objects,
        settings.max_pan,
        settings.classes,
        settings.speed,
        settings.arrivals,
        settings.min_side,
    )
    return scene, _simulate(scene, settings, camera_rng)


def _simulate(scene: Scene, settings: Settings, rng: np.random.Generator) -> Iterator[Events]:
    end, step = round(settings.seconds * 1e6), round(settings.dt_ms * 1e3)
    seen = scene.intensity(0.0)
    camera = DvsSimulator(
        seen,
        rng,
        threshold=settings.threshold,
        sigma=settings.sigma,
        refractory_us=settings.refractory_us,
        noise_hz=settings.noise_hz,
        leak_hz=settings.leak_hz,
        hot_pixels=settings.hot_pixels,
        hot_pixel_hz=settings.hot_pixel_hz,
    )
    for t in [*range(step, end, step), end]:
        yield camera.step(scene.intensity(t * 1e-6, out=seen), t)
