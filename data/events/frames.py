"""Events -> frames: how often each pixel fired in a time step, or which way it fired last."""

from __future__ import annotations

import numpy as np

from .interface import Events

GROUND = 127  # of last-event frames, where no event came


def count_frames(
    events: Events, t0_us: int, t1_us: int, num_steps: int, height: int, width: int, clip: int = 255
) -> np.ndarray:
    """uint8 [T, 2, H, W]: counts of OFF (channel 0) and ON (channel 1) events, saturating at `clip`.

    The window is (t0_us, t1_us]. With T = num_steps an event at t falls into step floor((t - t0 - 1) * T / (t1 - t0)),
    which maps the integers t0 + 1 .. t1 onto 0 .. T - 1 with none left over. Events outside the window are not counted.
    `events.t` must be sorted. ValueError for events outside height x width, or more steps than microseconds.
    """
    if not 0 < clip <= 255:
        raise ValueError(f"clip {clip} is outside 1..255, the range of uint8 counts")
    edges = _edges(events, t0_us, t1_us, num_steps, height, width)
    pixel = (events.p * np.int32(height) + events.y) * np.int32(width) + events.x
    frames = np.empty((num_steps, 2 * height * width), np.uint8)
    for k in range(num_steps):
        counts = np.bincount(pixel[edges[k] : edges[k + 1]], minlength=frames.shape[1])
        np.minimum(counts, clip, out=frames[k], casting="unsafe")
    return frames.reshape(num_steps, 2, height, width)


def last_event_frames(events: Events, t0_us: int, t1_us: int, num_steps: int, height: int, width: int) -> np.ndarray:
    """uint8 [T, 3, H, W], three equal channels: 255 where a pixel's last event of the step is ON, 0 where it is OFF,
    `GROUND` where it had none. Steps and errors as in `count_frames`."""
    edges = _edges(events, t0_us, t1_us, num_steps, height, width)
    pixel = events.y * np.int32(width) + events.x
    frames = np.full((num_steps, height * width), GROUND, np.uint8)
    for k in range(num_steps):
        step = slice(edges[k], edges[k + 1])
        frames[k, pixel[step]] = events.p[step] * np.uint8(255)  # of several events at a pixel the last one stays
    return np.repeat(frames.reshape(num_steps, 1, height, width), 3, axis=1)


def _edges(events: Events, t0_us: int, t1_us: int, num_steps: int, height: int, width: int) -> np.ndarray:
    """Step k holds the events edges[k] .. edges[k + 1] - 1."""
    span = t1_us - t0_us
    if not 0 < num_steps <= span:
        raise ValueError(f"{num_steps} steps do not fit a window of {span} us: give 1 to {span} steps")
    if len(events) and (events.x.max() >= width or events.y.max() >= height):
        raise ValueError(f"events reach x={events.x.max()}, y={events.y.max()} on a {width}x{height} frame: scale them")
    # Step k begins at the first t with (t - t0 - 1) * T >= k * span.
    first = t0_us + 1 + -(-np.arange(num_steps + 1, dtype=np.int64) * span // num_steps)
    return np.searchsorted(events.t, first)
