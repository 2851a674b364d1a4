"""One seeded street scene: cars and pedestrians pass in front of a panning, textured background."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .shapes import CLASSES, Pose, draw

MIN_SIDE = 10  # pixels: smaller visible boxes carry no label
MIN_VISIBLE = 0.25  # share of an object that must be in the frame and in front for a label
DARK, BRIGHT = 0.05, 0.95  # intensities of a scene lie between these


@dataclass(frozen=True)
class Frame:
    """A scene at one moment.

    intensity: float32 [H, W] in 0..1; owner: int8 [H, W], the object seen in each pixel, -1 for the background;
    area: pixels that each object would fill if nothing hid it.
    """

    intensity: np.ndarray
    owner: np.ndarray
    area: list[int]


@dataclass(frozen=True)
class Mover:
    """An object and its path: at time `when` it is at `x` and of `size`; it moves evenly and grows as it nears."""

    kind: int
    x: float
    ground: float
    size: float
    when: float
    speed: float  # pixels/s, signed
    growth: float  # 1/s
    gait: float  # radians/s
    phase: float
    shades: np.ndarray
    tint: np.ndarray  # RGB

    def pose(self, t: float) -> Pose:
        since = t - self.when
        grown = math.exp(self.growth * since)
        return Pose(
            x=self.x + self.speed * since,
            ground=self.ground + 0.25 * self.size * (grown - 1),
            size=self.size * grown,
            facing=math.copysign(1.0, self.speed),
            phase=self.phase + self.gait * since,
        )


class Scene:
    """Everything random is drawn in the constructor; `render(t)` and `truth(t)` are functions of time alone."""

    def __init__(
        self,
        rng: np.random.Generator,
        width: int = 304,
        height: int = 240,
        seconds: float = 2.0,
        max_objects: int = 4,
        max_pan: float = 30.0,
    ):
        self.width, self.height = width, height
        self.pan = rng.uniform(-max_pan, max_pan)  # pixels/s
        self.horizon = height * rng.uniform(0.30, 0.45)
        self._background = _background(rng, width, height, self.horizon)
        self._sky_tint = rng.uniform(0.85, 1.0, 3)
        count = int(rng.integers(1, max_objects + 1))
        movers = [_mover(rng, width, height, self.horizon, seconds) for _ in range(count)]
        self.movers = sorted(movers, key=lambda m: m.ground)  # the nearer stands lower and hides the farther

    def render(self, t: float) -> Frame:
        """The scene at `t` seconds."""
        intensity = self._view(t)
        owner = np.full(intensity.shape, -1, np.int8)
        area = []
        for index, mover in enumerate(self.movers):
            left, top, coverage, shade = draw(mover.kind, mover.pose(t), mover.shades)
            solid = coverage > 0.5
            area.append(int(solid.sum()))
            rows, cols = slice(max(top, 0), top + len(coverage)), slice(max(left, 0), left + coverage.shape[1])
            target = intensity[rows, cols]
            if rows.stop <= 0 or cols.stop <= 0 or target.size == 0:
                continue
            inside = (
                slice(rows.start - top, rows.start - top + target.shape[0]),
                slice(cols.start - left, cols.start - left + target.shape[1]),
            )
            target += coverage[inside] * (shade[inside] - target)
            owner[rows, cols][solid[inside]] = index
        return Frame(intensity, owner, area)

    def truth(self, frame: Frame) -> list[tuple[int, int, tuple[int, int, int, int]]]:
        """(track id, class, (x, y, w, h)) of every object of which enough is seen; the box holds its visible pixels."""
        found = []
        for index, mover in enumerate(self.movers):
            seen = frame.owner == index
            if seen.sum() < max(MIN_VISIBLE * frame.area[index], 1):
                continue
            cols, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
            x, y = int(cols[0]), int(rows[0])
            w, h = int(cols[-1]) + 1 - x, int(rows[-1]) + 1 - y
            if min(w, h) >= MIN_SIDE:
                found.append((index, mover.kind, (x, y, w, h)))
        return found

    def picture(self, frame: Frame) -> np.ndarray:
        """uint8 [3, H, W]: what a colour camera sees."""
        tints = np.stack([m.tint for m in self.movers] + [self._sky_tint]).astype(np.float32)  # owner -1 is the last
        rgb = frame.intensity * tints[frame.owner].transpose(2, 0, 1)
        return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)

    def _view(self, t: float) -> np.ndarray:
        """The background, which repeats itself, shifted by a fraction of a pixel."""
        shift = (self.pan * t) % (self._background.shape[1] - self.width)
        column, part = int(shift), np.float32(shift % 1)
        here = self._background[:, column : column + self.width]
        right = self._background[:, column + 1 : column + 1 + self.width]
        return here + part * (right - here)


def _mover(rng: np.random.Generator, width: int, height: int, horizon: float, seconds: float) -> Mover:
    kind = int(rng.integers(len(CLASSES)))
    unit = height / 240
    nearness = rng.uniform(0.15, 1.0)
    direction = rng.choice((-1.0, 1.0))
    if kind == 0:
        size = (45 + 75 * nearness) * unit
        speed = rng.uniform(25, 105) * unit
        gait = -speed / (0.085 * size)  # rolling without slipping
    else:
        size = (38 + 70 * nearness) * unit
        speed = rng.uniform(10, 35) * unit
        gait = rng.uniform(5, 9)
    return Mover(
        kind=kind,
        x=rng.uniform(0.15, 0.85) * width,
        ground=horizon + (height - horizon) * (0.22 + 0.73 * nearness),
        size=size,
        when=rng.uniform(0.25, 0.75) * seconds,
        speed=direction * speed,
        growth=rng.uniform(-0.15, 0.15),
        gait=gait,
        phase=rng.uniform(0, 2 * math.pi),
        shades=_shades(rng, kind),
        tint=rng.uniform(0.6, 1.0, 3),
    )


def _shades(rng: np.random.Generator, kind: int) -> np.ndarray:
    """Four intensities. Car: body, glass, tyre, hub. Pedestrian: coat, one leg, other leg and arm, skin."""
    main = rng.choice((rng.uniform(0.06, 0.25), rng.uniform(0.6, BRIGHT)))  # away from the mid-grey of the street
    if kind == 0:
        shades = (main, 0.12 if main > 0.4 else 0.5, DARK, 0.6)
    else:
        legs = rng.choice((rng.uniform(0.06, 0.2), rng.uniform(0.55, 0.8)))
        shades = (main, legs, min(legs * 1.5, BRIGHT), rng.uniform(0.3, 0.8))
    return np.array(shades, np.float32)


def _background(rng: np.random.Generator, width: int, height: int, horizon: float) -> np.ndarray:
    """float32 [H, 3 W + 1], periodic in 2 W columns: sky over street, buildings and poles along the horizon."""
    period = 2 * width
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(period)[None, :]
    spectrum = np.fft.rfft2(rng.standard_normal((height, period))) / np.maximum(np.hypot(fy, fx), 2 / period) ** 1.1
    texture = np.fft.irfft2(spectrum, (height, period))
    texture /= texture.std()
    rows = np.arange(height)[:, None] + 0.5
    street = np.clip(rows - horizon, 0, 1)
    picture = 0.70 - 0.30 * street + (0.05 + 0.04 * street) * texture
    for _ in range(int(rng.integers(10, 18))):
        left, wide = rng.integers(period), int(rng.uniform(0.01, 0.15) * width) + 1
        top, bottom = horizon - rng.uniform(0.03, 0.28) * height, horizon + rng.uniform(0, 0.06) * height
        cols = np.arange(left, left + wide) % period
        cover = np.clip(rows - top, 0, 1) * np.clip(bottom - rows, 0, 1)
        picture[:, cols] += cover * (rng.uniform(0.2, 0.8) + 0.05 * texture[:, cols] - picture[:, cols])
    picture = np.clip(picture, DARK, BRIGHT).astype(np.float32)
    return np.concatenate([picture, picture[:, : width + 1]], axis=1)
