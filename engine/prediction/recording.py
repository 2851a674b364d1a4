"""A recording of events as a part of a prediction (`Recording`): windows in order, with membranes carried or not."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from analysis.draw import event_image
from analysis.event_panel import TimeBar, event_panel
from data.events.input import EventInput
from data.problems import Problems
from data.recordings import EventReader, ShiftedReader, open_events
from data.recordings.unpacking import MAX_UNPACKED_MB
from data.representations import build_representation
from registry import UserError

from .frame import Found, Frame
from .image_parts import unlabelled
from .windows import Windows

log = logging.getLogger(__name__)

SHOWN_STEPS = 5  # of a window as it is drawn: older events are darker


class Recording:
    """path: of any format that `open_events` reads. max_unpacked_mb, shift_clock: see `data.events.gen1`."""

    unit = "window"

    def __init__(
        self, name: str, path: Path, input: EventInput, windows: Windows, max_unpacked_mb: int = MAX_UNPACKED_MB,
        shift_clock: bool = False,
    ):  # fmt: skip
        self.name, self._windows = name, windows
        reader = _opened(path, input, max_unpacked_mb)
        self._reader = ShiftedReader(reader) if shift_clock else reader
        span = self._reader.span(exact=True)
        if span is None:
            raise UserError(f"{path}: holds no events, so there is nothing to predict on. Record or copy it again")
        self._input = fitting(input, self._reader)
        self.rate = 1e6 / windows.stride
        assert span.last_us is not None
        self._first, self._start, self._last = span.first_us, span.start_us, span.last_us
        self.total = 1 if windows.whole else max(1, -(-(self._last - self._start) // windows.stride))
        self._bar = TimeBar(self._start, self._last)

    def frames(self) -> Iterator[Frame | UserError]:
        sensor = self._reader.sensor_size or self._input.sensor
        try:
            for number in range(self.total):
                t0, t1 = self._window(number)
                x, placement = self._input(self._reader, t0, t1)
                sample = unlabelled(x, placement, sensor, not self._windows.carry or number == 0)
                about = {
                    "clip": Path(self.name).stem,
                    "t_us": t1,
                    "start_us": self._start,
                    "window_us": t1 - t0 if self._windows.whole else self._windows.length,
                    "window": number + 1,
                }
                yield Frame(sample, self.name, about)
        finally:
            self._reader.close()

    def _window(self, number: int) -> tuple[int, int]:
        if self._windows.whole is not None:
            return self._windows.whole.window(self._reader, self._input.num_steps)
        end = self._start + (number + 1) * self._windows.stride
        start = end - self._windows.length
        return start - (start == self._start == self._first), end  # windows exclude their start

    def draw(self, frame: Frame, found: Found, class_names: list[str], score: float) -> Tensor:
        (t0, t1), length = self._window(frame.about["window"] - 1), frame.about["window_us"]
        events = self._reader.read(t0, t1)
        new = t0 if self._windows.whole else max(t1 - self._windows.stride, self._start - 1)
        self._bar.add(new, min(t1, self._last), int((events.t > new).sum()))
        form = build_representation("counts", min(SHOWN_STEPS, length))
        image = event_image(torch.from_numpy(form(events, t0, t1, *frame.sample.original_size)))
        count = f"{len(found.boxes)} box" + ("" if len(found.boxes) == 1 else "es")
        captions = f"{len(events):,} events in {length / 1e3:g} ms", f"{count} with score ≥ {score:g}"
        of_found = found.boxes, found.labels, found.scores, class_names
        return event_panel(image, *of_found, captions, self._bar, (t0, t1), found.tracks)


def _opened(path: Path, input: EventInput, max_unpacked_mb: int) -> EventReader:
    """A file that does not state its sensor's size has that of the training."""
    named = open_events(path, None, Problems(), False, max_unpacked_mb).sensor_size
    return open_events(path, None if named else input.sensor, max_unpacked_mb=max_unpacked_mb)


def fitting(input: EventInput, reader: EventReader) -> EventInput:
    """`input`, or where the recording's sensor is too large for it, one that divides coordinates by more."""
    height, width = reader.sensor_size or input.sensor
    factor = max(-(-height // input.size[0]), -(-width // input.size[1]))
    if input.representation.gray_images or factor <= input.factor:
        return input
    log.warning(
        "%s: its sensor of %dx%d is larger than that of the training, %dx%d: coordinates are divided by %d, not %d",
        reader.path, width, height, *input.sensor[::-1], factor, input.factor,
    )  # fmt: skip
    larger = copy.copy(input)
    larger.factor = factor
    return larger
