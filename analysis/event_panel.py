"""Draw a window of a recording: its events, beside them the same with boxes, below the time and the rate of events."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .draw import BACKGROUND, OFF, ON, TEXT, blank, captioned, draw_boxes, to_tensor, typeface

BINS = 512  # of the rate over the time of a recording, whatever its length
PLAYED = (58, 66, 84)


class TimeBar:
    """The rate of events over the time of a recording, as far as it has been played, with the present window marked.

    start_us, end_us: of the recording
    """

    def __init__(self, start_us: int, end_us: int):
        self._start, self._length = start_us, max(1, end_us - start_us)
        self._rates = [0.0] * BINS  # events/s

    def add(self, t0_us: int, t1_us: int, events: int) -> None:
        """(t0, t1] has been played, with that many events."""
        first, last = (self._place(t, BINS - 1) for t in (t0_us, t1_us))
        rate = 1e6 * events / max(1, t1_us - t0_us)
        for k in range(int(first), int(last) + 1):
            self._rates[k] = max(self._rates[k], rate)

    def draw(self, width: int, t0_us: int, t1_us: int) -> Tensor:
        """uint8 [3, H, width], the window (t0, t1] marked."""
        size = max(11, min(16, width // 40))
        strip = Image.new("RGB", (width, 3 * size + 14), BACKGROUND)
        pen, left, right, bottom = ImageDraw.Draw(strip), 6, width - 7, strip.height - 5
        top, span = bottom - 2 * size, right - left
        x0, x1 = (left + self._place(t, span) for t in (t0_us, t1_us))
        pen.rectangle((left, top, max(left, x1), bottom), fill=PLAYED)
        most = max(self._rates) or 1.0
        for x in range(span + 1):
            height = (bottom - top) * self._rates[x * (BINS - 1) // max(1, span)] / most
            if height > 0:
                pen.line((left + x, bottom, left + x, bottom - height), fill=OFF)
        pen.rectangle((left, top, right, bottom), outline=TEXT)
        pen.rectangle((x0, top - 2, max(x0 + 1, x1), bottom + 2), outline=ON, width=2)
        seconds = min(t1_us - self._start, self._length) / 1e6, self._length / 1e6
        text = f"t = {seconds[0]:.3f} s of {seconds[1]:.3f} s"
        rate = f"{_rate(self._rates[int(self._place(t1_us, BINS - 1))])}, bar up to {_rate(most)}"
        pen.text((left, 4), text, fill=TEXT, font=typeface(size))
        room = pen.textlength(rate, font=typeface(size))
        if left + pen.textlength(text, font=typeface(size)) + 20 < right - room:
            pen.text((right - room, 4), rate, fill=TEXT, font=typeface(size))
        return to_tensor(strip)

    def _place(self, t_us: int, cells: int) -> float:
        return cells * min(1.0, max(0.0, (t_us - self._start) / self._length))


def _rate(per_second: float) -> str:
    unit, size = ("M", 1e6) if per_second >= 1e6 else ("k", 1e3)
    return f"{per_second / size:.3g} {unit} events/s"


def event_panel(
    events: Tensor,
    boxes: Tensor,
    labels: Tensor,
    scores: Tensor,
    class_names: Sequence[str],
    captions: tuple[str, str],
    bar: TimeBar,
    window: tuple[int, int],
    tracks: Tensor | None = None,
) -> Tensor:
    """uint8 [3, H', W']: `events` left, with boxes right, under `captions`, above `bar` at `window` (t0, t1] us.

    events: uint8 [3, H, W], as `event_image` gives it. boxes [N, 4] xyxy in its pixels, with labels and scores [N].
    """
    left = draw_boxes(events, boxes[:0], labels[:0], class_names)
    right = draw_boxes(events, boxes, labels, class_names, scores, tracks=tracks)
    panels = [captioned(panel, text) for panel, text in zip((left, right), captions, strict=True)]
    image = torch.cat([panels[0], blank(panels[0].shape[1], max(4, left.shape[2] // 80)), panels[1]], 2)
    return torch.cat([image, bar.draw(image.shape[2], *window)], 1)
