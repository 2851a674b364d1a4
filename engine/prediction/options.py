"""Options of a prediction (`Options`), those of predict.py."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from registry import UserError


@dataclass(frozen=True)
class Options:
    """score: detections of a lower score are left out
    steps:   T of images; None: the model's
    batch, limit: frames at once, and of all; None: `eval.batch_size` of the run's config, no limit
    track:   number objects over time
    window_ms, stride_ms, carry: of recordings; None: those of the training
    save_json, draw: whether to write COCO json, and drawn frames
    video:   into a video for each part, not an image for each frame; None: of all but still images
    fps:     frames/s of a video of still images
    """

    score: float = 0.3
    steps: int | None = None
    batch: int | None = None
    limit: int | None = None
    track: bool = False
    window_ms: float | None = None
    stride_ms: float | None = None
    carry: bool | None = None
    save_json: bool = False
    draw: bool = True
    video: bool | None = None
    fps: float = 10.0

    @classmethod
    def names(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls)]

    def check(self) -> None:
        """UserError for a value that cannot be."""
        if not 0 <= self.score <= 1:
            raise UserError(f"--score {self.score:g}: give 0 to 1")
        for name in ("steps", "batch", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name} {value}: give a whole number of at least 1")
        if self.video and not self.draw:
            raise UserError("--video --no-draw: a video is of drawn frames. Leave one of them out")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise UserError(f"--fps {self.fps:g}: give frames per second, more than 0")
        for name, milliseconds in (("window-ms", self.window_ms), ("stride-ms", self.stride_ms)):
            if milliseconds is not None and not 1e-3 <= milliseconds <= 1e9:
                raise UserError(f"--{name} {milliseconds:g}: give milliseconds, at least 0.001")
