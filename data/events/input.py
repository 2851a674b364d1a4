"""Event inputs: a window of a recording as x [T, C, H, W] (`EventInput` from events, `FrameInput` from frames)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from registry import UserError

from ..images.input import ImageInput
from ..recordings import EventReader, Events
from ..representations import build_representation, complete_spec
from ..representations.base import check_numbers
from ..sample import Placement
from ..type_checks import flag, height_width, is_number, is_whole

if TYPE_CHECKING:
    from .augment import Change
    from .frames import FrameFile

STRIDE = 32  # pixels: the largest stride of the detectors; the default size is a multiple of it


class WindowInput(ABC):
    """recording, window (t0, t1] in us -> (x [T, C, *size], `Placement` of the sensor in x).

    The network takes x.float() * scale. `frames` computes the representation on the sensor's grid, where augmentation
    acts; `fit` brings it to `size`. A call does both.

    representation: a name, or {name: counts, clip: 10}: see docs/representations.md
    num_steps, window_us: T steps over the window of a label
    sensor:         (height, width), the largest one
    size:           (height, width) of x; None: that of the sensor, padded at the right and bottom to multiples of 32
    newest_first:   reversed order of the steps, as the published SpikeYOLO loader gives by mistake
    pad:            value of `x` beyond the sensor, representable in its dtype; None: that of a pixel without events

    Where the sensor is larger than `size`, coordinates are divided by the smallest integer (`factor`) that makes it
    fit, so that every cell covers as many pixels, and the rest is padded. (Other ratios would merge an uneven number of
    columns and give stripes.) Gray-scale representations are letterboxed into `size` like images.
    """

    kind: str

    def __init__(
        self,
        representation: str | Mapping[str, Any],
        num_steps: int,
        window_us: int,
        sensor: Sequence[int],
        size: Sequence[int] | None = None,
        newest_first: bool = False,
        pad: float | None = None,
    ):
        check_numbers("events", 1, num_steps=num_steps)
        check_numbers("events", 0, window_us=window_us)
        if num_steps > window_us:
            raise UserError(f"num_steps = {num_steps} does not fit a window of {window_us / 1e3:g} ms")
        if (newest := flag(newest_first)) is None:
            raise UserError(f"newest_first = {newest_first!r}: give true or false")
        self.representation = build_representation(representation, num_steps)
        self._spec = complete_spec(representation)
        self.num_steps, self.window_us, self.newest_first = num_steps, window_us, newest
        self.channels, self.scale = self.representation.channels, self.representation.scale
        self.pad = self.representation.empty if pad is None else _checked_pad(pad, self.representation.dtype)
        self.sensor = height, width = height_width(sensor, "sensor")
        self.size = up_to_stride(height, width) if size is None else height_width(size)
        self.factor = 1
        if not self.representation.gray_images:
            self.factor = max(-(-height // self.size[0]), -(-width // self.size[1]))

    def __call__(self, reader: Any, t0_us: int, t1_us: int) -> tuple[Tensor, Placement]:
        """UserError for a recording whose sensor is too large for `size`."""
        return self.fit(self.frames(reader, t0_us, t1_us)), self.placement(reader.sensor_size or self.sensor)

    def to_plain(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "representation": self._spec,
            "num_steps": self.num_steps,
            "window_us": self.window_us,
            "sensor": list(self.sensor),
            "size": list(self.size),
            "newest_first": self.newest_first,
            "pad": self.pad,
        }

    @abstractmethod
    def frames(self, reader: Any, t0_us: int, t1_us: int, change: Change | None = None) -> np.ndarray:
        """[T, C, H, W], oldest step first; H, W are those of the sensor divided by `factor`. C is 1 for gray images.

        change: random parameters of `EventAugment`, applied to the events
        """

    def fit(self, frames: np.ndarray) -> Tensor:
        """`frames` [T, C, H, W] -> x [T, C, *size]: resized or padded, in the order of `newest_first`."""
        height, width = frames.shape[-2:]
        place, channels = self.within(frames.shape[-2:]), frames.shape[1:-2]
        if self.representation.gray_images:
            height, width = round(height * place.scale_y), round(width * place.scale_x)
            frames, channels = _resize(frames, height, width, place.scale_x < 1), (self.channels,)
        top, left = int(place.top), int(place.left)
        x = np.full((len(frames), *channels, *self.size), self.pad, frames.dtype)
        x[..., top : top + height, left : left + width] = frames
        return torch.from_numpy(x[::-1].copy() if self.newest_first else x)

    def within(self, cells: tuple[int, ...]) -> Placement:
        """`Placement` of frames of `cells` (height, width) in x."""
        return ImageInput(self.size).placement(cells) if self.representation.gray_images else Placement()

    def placement(self, sensor: tuple[int, int]) -> Placement:
        """`Placement` of a sensor of (height, width) in x."""
        return self.within(sensor) if self.representation.gray_images else Placement(1 / self.factor, 1 / self.factor)

    def view(self, x: Tensor) -> Tensor:
        """`x` for display: see `Representation.view`."""
        oldest_first = x.flip(0) if self.newest_first else x
        return torch.from_numpy(self.representation.view(oldest_first.numpy()))


class EventInput(WindowInput):
    """Input from events: their representation over a window."""

    kind = "events"

    def frames(self, reader: EventReader, t0_us: int, t1_us: int, change: Change | None = None) -> np.ndarray:
        form, (height, width) = self.representation, reader.sensor_size or self.sensor
        rows, columns = -(-height // self.factor), -(-width // self.factor)
        if not form.gray_images and (rows > self.size[0] or columns > self.size[1]):
            raise UserError(
                f"{reader.path}: its sensor of {height} x {width} is larger than that of the training, "
                f"{self.sensor[0]} x {self.sensor[1]}: divided by {self.factor} it does not fit {list(self.size)}"
            )
        events = reader.read(t0_us - form.history_us, t1_us)
        if change is not None:
            events = change.events(events, t0_us, t1_us, height, width)
        if self.factor > 1:
            events = Events(events.t, events.x // self.factor, events.y // self.factor, events.p)
        frames = form(events, t0_us, t1_us, rows, columns)
        return frames[:, :1] if form.gray_images else frames  # all channels are equal


class FrameInput(WindowInput):
    """Input from precomputed frames: those that end in the window, preceded by empty steps."""

    kind = "frames"

    def frames(self, reader: FrameFile, t0_us: int, t1_us: int, change: Change | None = None) -> np.ndarray:
        read = reader.read(t0_us, t1_us)
        if len(read) > self.num_steps:
            raise UserError(f"{reader.path}: {len(read)} frames from {t0_us} to {t1_us} us, not {self.num_steps}")
        x = np.zeros((self.num_steps, *read.shape[1:]), read.dtype)
        x[self.num_steps - len(read) :] = read
        return x


def up_to_stride(height: int, width: int) -> tuple[int, int]:
    return -(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE


def _resize(frames: np.ndarray, height: int, width: int, smaller: bool) -> np.ndarray:
    """Resize gray images [T, 1, H, W]: bilinear when enlarging, area average when shrinking."""
    import cv2

    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.stack([cv2.resize(f, (width, height), interpolation=method) for f in frames[:, 0]])[:, None]


def _checked_pad(pad: object, dtype: type[np.generic]) -> float:
    """`pad`. UserError for a value that `dtype` does not hold."""
    if issubclass(dtype, np.floating):
        if is_number(pad) and np.isfinite(pad):
            return pad
        raise UserError(f"pad = {pad!r}: give a number")
    limits = np.iinfo(dtype)  # type: ignore[type-var]
    if is_whole(pad) and limits.min <= pad <= limits.max:
        return pad
    raise UserError(f"pad = {pad!r}: give a whole number from {limits.min} to {limits.max}")
