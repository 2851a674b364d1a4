"""Draw cars, pedestrians, cyclists and trucks by signed distance functions, each into a small patch of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

CLASSES = ("car", "pedestrian", "cyclist", "truck")
WHEEL = (0.085, None, 0.17, 0.065)  # radius, for those that roll

# Sizes in units of the object's own size: the length of a car or truck, the height of a pedestrian or cyclist.
_EXTENT = ((0.5, 0.42), (0.30, 1.0), (0.47, 1.0), (0.5, 0.48))  # half width about the anchor, height above the ground


@dataclass(frozen=True)
class Pose:
    """Pose of an object at one moment: ground point below its centre (pixels), size, facing, phase of its gait."""

    x: float
    ground: float
    size: float  # pixels: length of a car or truck, height of a pedestrian or cyclist
    facing: float  # +1 to the right, -1 to the left
    phase: float  # of the gait, radians


def extent(kind: int, pose: Pose) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the smallest patch of pixels that holds the object; the last two are beyond it."""
    half_width, tall = (e * pose.size for e in _EXTENT[kind])
    left, right = math.floor(pose.x - half_width) - 1, math.ceil(pose.x + half_width) + 1
    return left, math.floor(pose.ground - tall) - 1, right, math.ceil(pose.ground) + 1


def draw(kind: int, pose: Pose, shades: np.ndarray, within: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(coverage [h, w] in 0..1, intensity [h, w]) of the pixels (left, top, right, bottom) `within`."""
    patch = _Patch(pose, within)
    parts = (_car, _pedestrian, _cyclist, _truck)[kind](patch, np.float32(pose.size), pose.phase)
    left, top, right, bottom = within
    coverage = np.zeros((bottom - top, right - left), np.float32)
    intensity = np.zeros_like(coverage)
    for at, distance, shade in parts:
        alpha = np.minimum(np.maximum(0.5 - distance, 0), 1)  # one pixel of anti-aliasing
        intensity[at] += alpha * (shades[shade] - intensity[at])
        np.maximum(coverage[at], alpha, out=coverage[at])
    # `intensity` started from black: divide the black share out again at the antialiased rim.
    return coverage, intensity / np.maximum(coverage, 1e-3)


class _Patch:
    """The pixels to draw, in the object's frame: u forwards and v upwards from its anchor, in pixels."""

    def __init__(self, pose: Pose, within: tuple[int, int, int, int]):
        left, top, right, bottom = within
        self._pose, self._left, self._top = pose, left, top
        self._u = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - pose.x)) * np.float32(pose.facing)
        self._v = np.float32(pose.ground - 0.5) - np.arange(top, bottom, dtype=np.float32)

    def near(self, u: float, v: float, half_width: float, half_height: float):
        """(rows and columns, u [1, w], v [h, 1]) of the pixels that a part about (u, v) can touch, in object sizes.

        A part is nothing farther away, so it is worked out here alone.
        """
        pose, margin = self._pose, 2  # pixels: the antialiased rim, and rounding
        x, y = pose.x + pose.facing * u * pose.size, pose.ground - v * pose.size
        wide, tall = half_width * pose.size + margin, half_height * pose.size + margin
        rows = slice(max(math.floor(y - tall) - self._top, 0), max(math.ceil(y + tall) - self._top, 0))
        cols = slice(max(math.floor(x - wide) - self._left, 0), max(math.ceil(x + wide) - self._left, 0))
        return (rows, cols), self._u[None, cols], self._v[rows, None]


# Each yields its parts from back to front: region, signed distance [h, w] in pixels, index of the shade.


def _car(patch, size, phase):
    """Wheels, body, cabin, windows, hubs."""
    wheels = []
    for side in (-1, 1):
        at, u, v = patch.near(side * 0.29, 0.085, 0.085, 0.085)
        wheels.append((at, u, v, np.hypot(u - side * 0.29 * size, v - 0.085 * size), side))
    for at, _, _, distance, _ in wheels:
        yield at, distance - 0.085 * size, 2
    at, u, v = patch.near(0, 0.165, 0.495, 0.095)
    yield at, _box(u, v - 0.165 * size, 0.495 * size, 0.095 * size, 0.04 * size), 0
    at, u, v = patch.near(-0.04, 0.325, 0.34, 0.085)
    slope = 0.06 * size + 0.55 * (v - 0.25 * size)  # the cabin leans in towards its roof
    cabin = np.maximum(np.abs(u + 0.04 * size) + slope - 0.38 * size, np.abs(v - 0.325 * size) - 0.085 * size)
    yield at, cabin, 0
    yield at, np.maximum(cabin + 0.025 * size, 0.012 * size - np.abs(u + 0.03 * size)), 1
    for at, u, v, distance, side in wheels:
        yield at, distance - 0.04 * size, 3
        # A spoke, so that the rotation of a wheel is visible. (It turns backwards; correcting that would change the
        # scenes, and with them every published result on them.)
        angle = phase + side
        spoke = np.abs((u - side * 0.29 * size) * math.sin(angle) + (v - 0.085 * size) * math.cos(angle))
        yield at, np.maximum(spoke - 0.012 * size, distance - 0.075 * size), 3


def _pedestrian(patch, size, phase):
    """Legs and arms that swing in opposition, torso, head.

    The width changes by half in a stride. Much more, and no detector could tell it from the blur of 250 ms of events.
    """
    swing = 0.30 * math.sin(phase)
    hip, shoulder = (0.0, 0.48), (0.0, 0.80)
    for sign in (-1, 1):
        foot = (0.45 * math.sin(sign * swing), 0.48 - 0.43 * math.cos(swing))
        yield *_capsule(patch, size, hip, foot, 0.06), 1 if sign < 0 else 2
    hand = (0.30 * math.sin(-swing), 0.80 - 0.30 * math.cos(swing))
    yield *_capsule(patch, size, shoulder, (-hand[0], hand[1]), 0.03), 3
    yield *_capsule(patch, size, (0.0, 0.58), (0.0, 0.72), 0.125), 0
    yield *_disc(patch, size, (0.0, 0.92), 0.075), 3
    yield *_capsule(patch, size, shoulder, hand, 0.03), 2


def _cyclist(patch, size, phase):
    """Far leg, open wheels with spokes, frame, torso, head, arm, near leg. The pedals turn as the wheels do, slower."""
    crank, hip, shoulder, seat, bar = (0.0, 0.17), (-0.10, 0.52), (0.09, 0.79), (-0.10, 0.46), (0.20, 0.47)
    near, far = phase * 0.4, phase * 0.4 + math.pi
    yield from _pedalling(patch, size, hip, crank, far, 2)
    for hub in (-0.28, 0.28):
        at, u, v = patch.near(hub, 0.17, 0.19, 0.19)
        du, dv = u - np.float32(hub) * size, v - np.float32(0.17) * size
        distance = np.hypot(du, dv)
        yield at, np.abs(distance - 0.155 * size) - 0.016 * size, 5
        for angle in (phase + hub, phase + hub + math.pi / 2):
            spoke = np.abs(du * math.sin(angle) - dv * math.cos(angle)) - 0.006 * size
            yield at, np.maximum(spoke, distance - 0.155 * size), 4
    rear, front = (-0.28, 0.17), (0.28, 0.17)
    for start, end in ((rear, crank), (rear, seat), (seat, crank), (crank, bar), (seat, bar), (bar, front)):
        yield *_capsule(patch, size, start, end, 0.014), 4
    yield from _pedalling(patch, size, hip, crank, near, 1)
    yield *_capsule(patch, size, (-0.07, 0.56), (0.06, 0.73), 0.10), 0
    yield *_disc(patch, size, (0.16, 0.915), 0.075), 3
    yield *_capsule(patch, size, shoulder, (0.21, 0.50), 0.03), 3


def _pedalling(patch, size, hip, crank, angle, shade):
    """Thigh and shin to the pedal at `angle`, of equal length; the knee is offset from their midpoint."""
    foot = (crank[0] + 0.075 * math.cos(angle), crank[1] + 0.075 * math.sin(angle))
    dx, dy = foot[0] - hip[0], foot[1] - hip[1]
    way = math.hypot(dx, dy)
    bend = math.sqrt(max(0.23**2 - way**2 / 4, 0.0)) / way
    knee = ((hip[0] + foot[0]) / 2 - bend * dy, (hip[1] + foot[1]) / 2 + bend * dx)
    yield *_capsule(patch, size, hip, knee, 0.05), shade
    yield *_capsule(patch, size, knee, foot, 0.035), shade


def _truck(patch, size, phase):
    """Chassis, cargo, cab with a window, three wheels with a spoke each."""
    yield *_rectangle(patch, size, (0.0, 0.09), (0.48, 0.025), 0.01), 3
    yield *_rectangle(patch, size, (-0.14, 0.29), (0.355, 0.18), 0.01), 0
    yield *_rectangle(patch, size, (0.365, 0.205), (0.13, 0.145), 0.03), 1
    yield *_rectangle(patch, size, (0.415, 0.265), (0.06, 0.055), 0.015), 2
    for hub in (-0.37, -0.22, 0.35):
        at, u, v = patch.near(hub, 0.065, 0.065, 0.065)
        du, dv = u - np.float32(hub) * size, v - np.float32(0.065) * size
        distance = np.hypot(du, dv)
        yield at, distance - 0.065 * size, 3
        yield at, distance - 0.025 * size, 4
        spoke = np.abs(du * math.sin(phase + hub) - dv * math.cos(phase + hub))
        yield at, np.maximum(spoke - 0.01 * size, distance - 0.055 * size), 4


def _disc(patch, size, centre, radius):
    at, u, v = patch.near(*centre, radius, radius)
    x, y = (np.float32(c) * size for c in centre)
    return at, np.hypot(u - x, v - y) - np.float32(radius) * size


def _rectangle(patch, size, centre, half, corner):
    at, u, v = patch.near(*centre, *half)
    (x, y), (half_width, half_height) = (np.float32(centre) * size, np.float32(half) * size)
    return at, _box(u - x, v - y, half_width, half_height, np.float32(corner) * size)


def _box(u, v, half_width, half_height, corner):
    qx, qy = np.abs(u) - (half_width - corner), np.abs(v) - (half_height - corner)
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
    return outside + np.minimum(np.maximum(qx, qy), 0) - corner


def _capsule(patch, size, start, end, radius):
    (ax, ay), (bx, by) = start, end
    at, u, v = patch.near((ax + bx) / 2, (ay + by) / 2, abs(bx - ax) / 2 + radius, abs(by - ay) / 2 + radius)
    dx, dy = (bx - ax) * size, (by - ay) * size
    px, py = u - np.float32(ax) * size, v - np.float32(ay) * size
    along = np.clip((px * np.float32(dx) + py * np.float32(dy)) / np.float32(dx * dx + dy * dy), 0, 1)
    return at, np.hypot(px - along * np.float32(dx), py - along * np.float32(dy)) - np.float32(radius) * size
