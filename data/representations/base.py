"""Base class of event representations (`Representation`), and the division of a window into time steps."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from registry import UserError, none_of

from ..recordings.interface import Events


class Representation(ABC):
    """Converts the events of a window to `x` [T, C, H, W], oldest step first; micro-bins [T, bins, C, H, W].

    num_steps:  T
    channels:   C
    dtype:      of x: uint8, int8 or float32
    scale:      the network is given x.float() * scale
    empty:      value of a cell without events
    history_us: time before the window whose events are used as well; callers pass them too
    gray_images: x holds gray-scale images, all channels equal, which are resized like photographs. Otherwise its cells
                 are those of the sensor, which is coarsened by dividing coordinates by a whole number
    """

    channels: int
    dtype: type[np.generic] = np.uint8
    scale: float = 1.0
    empty: float = 0
    history_us: int = 0
    gray_images: bool = False

    def __init__(self, num_steps: int):
        if num_steps < 1:
            raise UserError(f"num_steps = {num_steps}: give at least 1")
        self.num_steps = num_steps

    @abstractmethod
    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        """`x` of the window (t0_us, t1_us] on a sensor of height x width.

        `events` are sorted by time; those before `t0_us - history_us` or after `t1_us` are ignored. UserError for
        events outside height x width, or more steps than microseconds.
        """

    def view(self, x: np.ndarray) -> np.ndarray:
        """`x` for display: OFF and ON counts or strengths [T, 2, H, W], or images [T, 3, H, W]."""
        return x


def step_times(t0_us: int, t1_us: int, num_steps: int) -> np.ndarray:
    """int64 [T + 1]: step k of the window (t0, t1] is the interval times[k] < t <= times[k + 1].

    With T = num_steps, an event at t falls into step floor((t - t0 - 1) * T / (t1 - t0)), which maps the integers
    t0 + 1 .. t1 onto 0 .. T - 1. Dividing T steps into B bins each is the same as T * B steps.
    """
    # Step k begins after the last t with (t - t0 - 1) * T < k * span.
    return t0_us - (-np.arange(num_steps + 1, dtype=np.int64) * (t1_us - t0_us) // num_steps)


def step_edges(events: Events, t0_us: int, t1_us: int, num_steps: int, height: int, width: int) -> np.ndarray:
    """int64 [T + 1]: step k of the window has the events edges[k] .. edges[k + 1] - 1; see `step_times`.

    Errors as in `Representation.__call__`.
    """
    span = t1_us - t0_us
    if not 0 < num_steps <= span:
        raise UserError(f"{num_steps} steps do not fit a window of {span} us: give 1 to {span} steps")
    if len(events) and (events.x.max() >= width or events.y.max() >= height):
        raise UserError(f"events reach x={events.x.max()}, y={events.y.max()} on a {width}x{height} frame: scale them")
    return np.searchsorted(events.t, step_times(t0_us, t1_us, num_steps), "right")


def check_numbers(form: str, least: float, **numbers: float) -> None:
    """UserError for an argument of `form` that is no number or below `least`; for an int `least`, also for a float."""
    for name, value in numbers.items():
        kinds = int if isinstance(least, int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not value >= least:
            what = "a whole number" if isinstance(least, int) else "a number"
            raise UserError(f"{form}: {name} = {value!r}: give {what} of at least {least}")


def check_choice(form: str, name: str, value: str, known: tuple[str, ...]) -> None:
    """UserError for an argument of `form` that is not in `known`."""
    if value not in known:
        raise UserError(none_of(f"{form}: {name} = {value!r}", value, known))


def check_clip(form: str, clip: int, most: int = 255) -> None:
    """UserError for a saturation limit `clip` of `form` outside 1 .. `most`."""
    if isinstance(clip, bool) or not isinstance(clip, int) or not 0 < clip <= most:
        kind = "uint8 counts" if most == 255 else "int8 sums"
        raise UserError(f"{form}: clip = {clip} is outside 1..{most}, the range of {kind}")
