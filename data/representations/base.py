"""What every representation of events offers, and the cut of a window into time steps."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from ..events.interface import Events


class Representation(ABC):
    """Turns the events of a window into `x` [T, C, H, W], oldest step first.

    num_steps:  T
    channels:   C
    dtype:      of x
    scale:      the network is given x.float() * scale
    empty:      value where no event came
    history_us: how far before the window its events matter; callers pass those too
    picture:    x is made of pictures: to be scaled like photographs. Else its cells are those of the sensor, and a
                coarser sensor's are got by dividing coordinates by a whole number
    """

    channels: int
    dtype: type[np.generic] = np.uint8
    scale: float = 1.0
    empty: float = 0
    history_us: int = 0
    picture: bool = False

    def __init__(self, num_steps: int):
        if num_steps < 1:
            raise ValueError(f"num_steps = {num_steps}: give at least 1")
        self.num_steps = num_steps

    @abstractmethod
    def __call__(self, events: Events, t0_us: int, t1_us: int, height: int, width: int) -> np.ndarray:
        """`x` of the window (t0_us, t1_us] on a sensor of height x width.

        `events` are sorted by time; those before `t0_us - history_us` or after `t1_us` have no effect. ValueError for
        events outside height x width, or more steps than microseconds.
        """

    def view(self, x: np.ndarray) -> np.ndarray:
        """`x` to look at: [T, 2, H, W] of how many events OFF and ON, or how strongly; or pictures [T, 3, H, W]."""
        return x


def step_edges(events: Events, t0_us: int, t1_us: int, num_steps: int, height: int, width: int) -> np.ndarray:
    """int64 [T + 1]: step k of the window holds the events edges[k] .. edges[k + 1] - 1.

    With T = num_steps an event at t falls into step floor((t - t0 - 1) * T / (t1 - t0)), which maps the integers
    t0 + 1 .. t1 onto 0 .. T - 1 with none left over. ValueError as `Representation.__call__` says.
    """
    span = t1_us - t0_us
    if not 0 < num_steps <= span:
        raise ValueError(f"{num_steps} steps do not fit a window of {span} us: give 1 to {span} steps")
    if len(events) and (events.x.max() >= width or events.y.max() >= height):
        raise ValueError(f"events reach x={events.x.max()}, y={events.y.max()} on a {width}x{height} frame: scale them")
    # Step k begins at the first t with (t - t0 - 1) * T >= k * span.
    first = t0_us + 1 + -(-np.arange(num_steps + 1, dtype=np.int64) * span // num_steps)
    return np.searchsorted(events.t, first)
