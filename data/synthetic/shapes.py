"""A car and a pedestrian, drawn by signed distance into a small patch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

CLASSES = ("car", "pedestrian")

# Sizes in units of the object's own size: the length of a car, the height of a pedestrian.
_EXTENT = ((0.5, 0.42), (0.30, 1.0))  # half width to either side of the anchor, height above the ground


@dataclass(frozen=True)
class Pose:
    """Where an object stands at one moment: the ground point below its middle (pixels), its size, facing, gait."""

    x: float
    ground: float
    size: float  # pixels: length of a car, height of a pedestrian
    facing: float  # +1 to the right, -1 to the left
    phase: float  # of the gait, radians


def draw(kind: int, pose: Pose, shades: np.ndarray) -> tuple[int, int, np.ndarray, np.ndarray]:
    """(left, top, coverage [h, w] in 0..1, intensity [h, w]) of the smallest patch that holds the object.

    The patch is not cut at the frame, so `coverage` is also the whole extent of the object.
    """
    half_width, tall = (e * pose.size for e in _EXTENT[kind])
    left, right = math.floor(pose.x - half_width) - 1, math.ceil(pose.x + half_width) + 1
    top, bottom = math.floor(pose.ground - tall) - 1, math.ceil(pose.ground) + 1
    u = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - pose.x)) * np.float32(pose.facing)
    v = np.float32(pose.ground - 0.5) - np.arange(top, bottom, dtype=np.float32)
    parts = (_car, _pedestrian)[kind](u[None, :], v[:, None], np.float32(pose.size), pose.phase)
    coverage = np.zeros((bottom - top, right - left), np.float32)
    intensity = np.zeros_like(coverage)
    for distance, shade in parts:
        alpha = np.clip(0.5 - distance, 0, 1)  # one pixel of anti-aliasing
        intensity += alpha * (shades[shade] - intensity)
        coverage = np.maximum(coverage, alpha)
    # `intensity` started from black: divide the black share out again at the antialiased rim.
    return left, top, coverage, intensity / np.maximum(coverage, 1e-3)


def _car(u, v, size, phase):
    """Wheels, body, cabin, windows, hubs: signed distances [h, w] in pixels with the index of their shade."""
    wheels = [(np.hypot(u - s * 0.29 * size, v - 0.085 * size), s) for s in (-1, 1)]
    for distance, _ in wheels:
        yield distance - 0.085 * size, 2
    yield _box(u, v - 0.165 * size, 0.495 * size, 0.095 * size, 0.04 * size), 0
    slope = 0.06 * size + 0.55 * (v - 0.25 * size)  # the cabin leans in towards its roof
    cabin = np.maximum(np.abs(u + 0.04 * size) + slope - 0.38 * size, np.abs(v - 0.325 * size) - 0.085 * size)
    yield cabin, 0
    yield np.maximum(cabin + 0.025 * size, 0.012 * size - np.abs(u + 0.03 * size)), 1
    for distance, side in wheels:
        yield distance - 0.04 * size, 3
        # A spoke, so that a turning wheel is seen to turn.
        angle = phase + side
        yield (
            np.maximum(
                np.abs((u - side * 0.29 * size) * math.sin(angle) + (v - 0.085 * size) * math.cos(angle))
                - 0.012 * size,
                distance - 0.075 * size,
            ),
            3,
        )


def _pedestrian(u, v, size, phase):
    """Legs and arms that swing in opposition, torso, head.

    The width changes by half in a stride. Much more, and no detector could tell it from the blur of 250 ms of events.
    """
    swing = 0.30 * math.sin(phase)
    hip, shoulder = (0.0, 0.48), (0.0, 0.80)
    for sign in (-1, 1):
        foot = (0.45 * math.sin(sign * swing), 0.48 - 0.43 * math.cos(swing))
        yield _capsule(u, v, size, hip, foot, 0.06), 1 if sign < 0 else 2
    hand = (0.30 * math.sin(-swing), 0.80 - 0.30 * math.cos(swing))
    yield _capsule(u, v, size, shoulder, (-hand[0], hand[1]), 0.03), 3
    yield _capsule(u, v, size, (0.0, 0.58), (0.0, 0.72), 0.125), 0
    yield np.hypot(u, v - np.float32(0.92) * size) - np.float32(0.075) * size, 3
    yield _capsule(u, v, size, shoulder, hand, 0.03), 2


def _box(u, v, half_width, half_height, corner):
    qx, qy = np.abs(u) - (half_width - corner), np.abs(v) - (half_height - corner)
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
    return outside + np.minimum(np.maximum(qx, qy), 0) - corner


def _capsule(u, v, size, start, end, radius):
    (ax, ay), (bx, by) = start, end
    dx, dy = (bx - ax) * size, (by - ay) * size
    px, py = u - np.float32(ax) * size, v - np.float32(ay) * size
    along = np.clip((px * np.float32(dx) + py * np.float32(dy)) / np.float32(dx * dx + dy * dy), 0, 1)
    return np.hypot(px - along * np.float32(dx), py - along * np.float32(dy)) - np.float32(radius) * size
