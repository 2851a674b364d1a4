"""Videos by OpenCV: frames of a file or a camera (`VideoReader`), frames into a file (`VideoWriter`)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from registry import UserError

from ..files import require_regular

ENDINGS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ogv", ".mts", ".m2ts")
USUAL_RATE = 25.0  # frames/s, of a file or camera that states none
_RATES = (0.1, 1000.0)  # what else a header states is damage; others cannot be written


class VideoReader:
    """Frames of a video file, or of a camera by its index, in order.

    rate:  frames/s
    count: frames that the file announces; None: unknown, of a camera endless
    UserError where it cannot be opened.
    """

    def __init__(self, source: Path | int):
        import cv2

        self.source = source
        if isinstance(source, Path):
            require_regular(source)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # what cannot be opened is said below
        self._capture: Any = cv2.VideoCapture(source if isinstance(source, int) else str(source.absolute()))
        if not self._capture.isOpened():
            if isinstance(source, int):
                raise UserError(f"camera {source}: cannot be opened. Connect it, or give another index or a file")
            raise UserError(f"{source}: cannot be opened as a video. Copy it again, or convert it to .mp4")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = float(rate) if math.isfinite(rate) and _RATES[0] <= rate <= _RATES[1] else USUAL_RATE
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        known = isinstance(source, Path) and math.isfinite(count) and count > 0
        self.count = int(count) if known else None

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        """(uint8 [H, W, 3] RGB, time since the first frame [us]) of each frame, upright. A frame that cannot be decoded
        ends the video."""
        import cv2

        began: float | None = None
        while True:
            good, image = self._capture.read()
            if not good:
                return
            live = isinstance(self.source, int)
            now = time.perf_counter() if live else self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            began = now if began is None else began
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB), round(1e6 * (now - began))

    def close(self) -> None:
        self._capture.release()


class VideoWriter:
    """Frames into a video file, MPEG-4, by the suffix of `path`; it appears under its name when it is closed.

    rate: frames/s; below 0.1 and above 1000 these are taken. All frames have the size of the first one; a side that is
        odd gets one more row or column.
    UserError where the file cannot be written, and for a frame of another size.
    """

    def __init__(self, path: Path, rate: float):
        self.path, self.rate, self.count = path, min(max(rate, _RATES[0]), _RATES[1]), 0
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._writer: Any = None
        self._shape: tuple[int, ...] = ()

    def write(self, image: np.ndarray) -> None:
        """image: uint8 [H, W, 3] RGB."""
        import cv2

        if self._writer is None:
            self._open(image.shape)
        if image.shape != self._shape:
            (h, w, _), (height, width, _) = image.shape, self._shape
            raise UserError(
                f"{self.path}: frame {self.count + 1} is {w}x{h}, those before {width}x{height}, and a video has "
                "one size: leave --video out"
            )
        even = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
        self._writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
        self.count += 1

    def _open(self, shape: tuple[int, ...]) -> None:
        import cv2

        size = shape[1] + shape[1] % 2, shape[0] + shape[0] % 2
        self._writer = cv2.VideoWriter(str(self._partial), cv2.VideoWriter.fourcc(*"mp4v"), self.rate, size)
        self._shape = shape
        if not self._writer.isOpened():
            self._writer = None
            raise UserError(f"{self.path}: a video of {size[0]}x{size[1]} cannot be written there. Name another --out")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            self._partial.replace(self.path)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()
