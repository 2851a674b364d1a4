"""A random street scene (`Scene`): vehicles and people pass in front of a panning, textured background."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .shapes import CLASSES, WHEEL, Pose, draw, extent

MIN_SIDE = 10  # pixels: smaller visible boxes are not labelled
MIN_VISIBLE = 0.25  # visible share of an object (in the frame, not occluded) required for a label
DARK, BRIGHT = 0.05, 0.95  # intensities of a scene lie between these
SOLID = 0.1  # lower bound of the share of its patch that an object fills
# Per class, in an image 240 pixels high: size far away, what it gains near, slowest and fastest in pixels/s.
PACE = ((45, 75, 25, 105), (38, 70, 10, 35), (42, 66, 20, 70), (60, 100, 20, 90))


@dataclass(frozen=True)
class Frame:
    """A scene at one moment.

    intensity: float32 [H, W] in 0..1
    owner:     int16 [H, W], index of the visible object in each pixel, -1 for the background
    area:      unoccluded area of each object in pixels, also beyond the frame; 0 if it is entirely outside
    """

    intensity: np.ndarray
    owner: np.ndarray
    area: list[int]


@dataclass(frozen=True)
class Mover:
    """An object and its path: position `x` and `size` at time `when`, constant speed, exponential growth."""

    kind: int  # of CLASSES
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
    """A random scene. All randomness is drawn in the constructor; `render(t)` and `intensity(t)` depend on time alone.

    classes:  which of `shapes.CLASSES` appear; a label is an index into this list
    speed:    factor on the speeds of objects and limbs
    arrivals: mean number of objects that pass per second, over the whole clip; 0: 1 to `max_objects` objects pass
              around the middle of the clip
    min_side: pixels; smaller visible boxes are not labelled
    """

    def __init__(
        self,
        rng: np.random.Generator,
        width: int = 304,
        height: int = 240,
        seconds: float = 2.0,
        max_objects: int = 4,
        max_pan: float = 30.0,
        classes: Sequence[str] = CLASSES[:2],
        speed: float = 1.0,
        arrivals: float = 0.0,
        min_side: int = MIN_SIDE,
    ):
        self.width, self.height, self.min_side = width, height, min_side
        self.kinds = [CLASSES.index(name) for name in classes]
        self.pan = rng.uniform(-max_pan, max_pan)  # pixels/s
        self.horizon = height * rng.uniform(0.30, 0.45)
        self._background = _background(rng, width, height, self.horizon)
        self._to_right = self._background[:, 1:] - self._background[:, :-1]
        self._sky_tint = rng.uniform(0.85, 1.0, 3)
        count = int(rng.integers(1, max_objects + 1) if arrivals == 0 else max(rng.poisson(arrivals * seconds), 1))
        movers = [_mover(rng, self.kinds, width, height, self.horizon, seconds, speed) for _ in range(count)]
        if arrivals > 0:
            movers = [_passer(rng, mover, width, seconds) for mover in movers]
        self.movers = sorted(movers, key=lambda m: m.ground)  # nearer objects stand lower

    def intensity(self, t: float, out: np.ndarray | None = None) -> np.ndarray:
        """float32 [H, W] (written to `out` if given): intensity at `t` seconds, for the event camera."""
        image = self._view(t, out)
        for _ in self._paint(image, t):
            pass
        return image

    def render(self, t: float) -> Frame:
        """The scene at `t` seconds."""
        intensity = self._view(t)
        owner = np.full(intensity.shape, -1, np.int16)
        area = [0] * len(self.movers)
        for index, (left, top, right, bottom), coverage in self._paint(intensity, t):
            solid = coverage > 0.5
            owner[top:bottom, left:right][solid] = index
            area[index] = self._whole_area(self.movers[index], t, int(solid.sum()), solid.size)
        return Frame(intensity, owner, area)

    def truth(self, frame: Frame) -> list[tuple[int, int, tuple[int, int, int, int]]]:
        """(track id, label, (x, y, w, h)) of every sufficiently visible object; boxes enclose the visible pixels."""
        found = []
        for index, mover in enumerate(self.movers):
            seen = frame.owner == index
            if seen.sum() < max(MIN_VISIBLE * frame.area[index], 1):
                continue
            cols, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
            x, y = int(cols[0]), int(rows[0])
            w, h = int(cols[-1]) + 1 - x, int(rows[-1]) + 1 - y
            if min(w, h) >= self.min_side:
                found.append((index, self.kinds.index(mover.kind), (x, y, w, h)))
        return found

    def image(self, frame: Frame) -> np.ndarray:
        """uint8 [3, H, W]: what a colour camera sees."""
        tints = np.stack([m.tint for m in self.movers] + [self._sky_tint]).astype(np.float32)  # owner -1 is the last
        rgb = np.stack([frame.intensity * tint[frame.owner] for tint in tints.T.copy()])
        return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)

    def _paint(self, image: np.ndarray, t: float) -> Iterator[tuple[int, tuple[int, int, int, int], np.ndarray]]:
        """Draw all objects from back to front; yields (index, (left, top, right, bottom), coverage) of visible ones."""
        for index, mover in enumerate(self.movers):
            pose = mover.pose(t)
            left, top, right, bottom = extent(mover.kind, pose)
            left, top, right, bottom = max(left, 0), max(top, 0), min(right, self.width), min(bottom, self.height)
            if left >= right or top >= bottom:
                continue
            coverage, shade = draw(mover.kind, pose, mover.shades, (left, top, right, bottom))
            target = image[top:bottom, left:right]
            target += coverage * (shade - target)
            yield index, (left, top, right, bottom), coverage

    def _whole_area(self, mover: Mover, t: float, solid: int, drawn: int) -> int:
        """Area of an object in pixels, also beyond the image; `solid` of its `drawn` pixels inside it are covered."""
        pose = mover.pose(t)
        left, top, right, bottom = extent(mover.kind, pose)
        pixels = (right - left) * (bottom - top)
        if pixels == drawn:
            return solid
        if SOLID * pixels * MIN_VISIBLE > self.width * self.height:
            return round(SOLID * pixels)  # so near that it never carries a label, and too much to draw
        coverage, _ = draw(mover.kind, pose, mover.shades, (left, top, right, bottom))
        return int((coverage > 0.5).sum())

    def _view(self, t: float, out: np.ndarray | None = None) -> np.ndarray:
        """The background, which repeats itself, shifted by a fraction of a pixel."""
        shift = (self.pan * t) % (self._background.shape[1] - self.width)
        column, part = int(shift), np.float32(shift % 1)
        here = self._background[:, column : column + self.width]
        view = np.multiply(self._to_right[:, column : column + self.width], part, out=out)
        view += here
        return view


def _mover(
    rng: np.random.Generator, kinds: list[int], width: int, height: int, horizon: float, seconds: float, pace: float
) -> Mover:
    kind = kinds[int(rng.integers(len(kinds)))]
    unit = height / 240
    nearness = rng.uniform(0.15, 1.0)
    direction = rng.choice((-1.0, 1.0))
    far, gain, slowest, fastest = PACE[kind]
    size = (far + gain * nearness) * unit
    speed = rng.uniform(slowest, fastest) * unit * pace
    wheel = WHEEL[kind]
    gait = rng.uniform(5, 9) * pace if wheel is None else -speed / (wheel * size)  # rolling without slipping
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


def _passer(rng: np.random.Generator, mover: Mover, width: int, seconds: float) -> Mover:
    """The same object at any moment of the clip. It grows little enough to stay an object while it crosses."""
    crossing_s = width / max(abs(mover.speed), 1e-6)
    return replace(mover, when=rng.uniform(0, seconds), growth=mover.growth * min(1, 2 / crossing_s))


def _shades(rng: np.random.Generator, kind: int) -> np.ndarray:
    """Intensities of the parts: car: body, glass, tyre, hub; pedestrian: coat, one leg, other leg and arm, skin;
    cyclist: coat, one leg, other leg, skin, frame, tyre; truck: cargo, cab, glass, tyre, hub."""
    main = rng.choice((rng.uniform(0.06, 0.25), rng.uniform(0.6, BRIGHT)))  # away from the mid-grey of the street
    shades: tuple[float, ...]
    if kind == 0:
        shades = (main, 0.12 if main > 0.4 else 0.5, DARK, 0.6)
    elif kind == 3:
        cab = rng.choice((rng.uniform(0.08, 0.25), rng.uniform(0.55, 0.8)))
        shades = (main, cab, 0.12 if cab > 0.4 else 0.5, DARK, 0.6)
    else:
        legs = rng.choice((rng.uniform(0.06, 0.2), rng.uniform(0.55, 0.8)))
        shades = (main, legs, min(legs * 1.5, BRIGHT), rng.uniform(0.3, 0.8))
        if kind == 2:
            shades += (rng.choice((rng.uniform(0.06, 0.2), rng.uniform(0.7, BRIGHT))), DARK)
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
    image = 0.70 - 0.30 * street + (0.05 + 0.04 * street) * texture
    for _ in range(int(rng.integers(10, 18))):
        left, wide = rng.integers(period), int(rng.uniform(0.01, 0.15) * width) + 1
        top, bottom = horizon - rng.uniform(0.03, 0.28) * height, horizon + rng.uniform(0, 0.06) * height
        cols = np.arange(left, left + wide) % period
        cover = np.clip(rows - top, 0, 1) * np.clip(bottom - rows, 0, 1)
        image[:, cols] += cover * (rng.uniform(0.2, 0.8) + 0.05 * texture[:, cols] - image[:, cols])
    image = np.clip(image, DARK, BRIGHT).astype(np.float32)
    return np.concatenate([image, image[:, : width + 1]], axis=1)
