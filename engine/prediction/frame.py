"""A `Frame`: one image, frame of a video or window of a recording; a `Part`: frames that belong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from data.sample import Sample
from registry import UserError


@dataclass
class Frame:
    """sample: input of the network, without boxes
    name:   file that it is of, relative to the source
    about:  more for images.json: frame, t_us, window_us ...
    image:  uint8 [3, H, W] in original pixels; None: `Part.draw` makes it
    """

    sample: Sample
    name: str
    about: dict[str, Any] = field(default_factory=dict)
    image: Tensor | None = None


@dataclass
class Found:
    """Detections of a frame, best first, in pixels of the original image.

    boxes: float64 [N, 4] xyxy; scores: float64 [N]; labels: int64 [N]
    tracks: int64 [N], from 0, -1 for none yet; None: not tracked
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    tracks: Tensor | None = None


class Part(Protocol):
    """All still images, or one video, camera or recording.

    name:  of the file; its results are named after it
    rate:  frames/s; None: still images
    total: number of frames; None: unknown
    unit:  what a frame is called
    """

    @property
    def name(self) -> str: ...
    @property
    def rate(self) -> float | None: ...
    @property
    def total(self) -> int | None: ...
    @property
    def unit(self) -> str: ...

    def frames(self) -> Iterator[Frame | UserError]:
        """In order; a UserError in place of one that cannot be read, raised where nothing can follow it."""

    def draw(self, frame: Frame, found: Found, class_names: list[str], score: float) -> Tensor:
        """uint8 [3, H', W']."""
