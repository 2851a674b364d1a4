"""Base class of datasets of event recordings (`EventDataset`): sampling of windows, representation, label checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from registry import UserError, none_of

from ..problems import Problem, Problems
from ..recordings import Span, Tally, audit_events
from ..recordings.unpacking import MAX_UNPACKED_MB
from ..representations.base import check_numbers
from .clip import Clip
from .input import EventInput, WindowInput
from .label_times import label_time_problem, report_label_times
from .window_dataset import WindowDataset
from .windows import cut_windows, label_windows, sequential_windows, windows_of

SAMPLINGS = ("random", "sequential")


class EventDataset(WindowDataset):
    """One sample per label time t of each clip: the events in (t - window, t] as `x` [T, C, H, W].

    representation, size, newest_first, pad: arguments of `EventInput`; its sensor is the largest of the clips
    num_steps, window_ms: T steps per window. Steps before the start of the recording are empty
    sampling: "random": each label is an independent sample from reset state. "sequential": windows of about `window_ms`
              tile each recording from its start (`Span.start_us`) to its last label, for detectors that carry their
              state. Windows end at every label time; one without a label at its end is not scored
    augment:  options of `EventAugment`, such as {"hflip": 0.5}; drawn once per recording in sequential sampling
    allow_missing: leave out recordings whose file is absent; their samples still count in `expected_images`

    A subclass reads its folder into clips of events and calls this constructor with them.
    """

    def __init__(
        self,
        split: str,
        clips: list[Clip],
        class_names: Sequence[str],
        expected_images: int,
        *,
        representation: str | Mapping[str, Any] = "counts",
        num_steps: int = 5,
        window_ms: float = 250.0,
        sampling: str = "random",
        size: Sequence[int] | None = None,
        augment: dict[str, Any] | None = None,
        newest_first: bool = False,
        pad: float | None = None,
        problems: Problems | None = None,
    ):
        problems = Problems() if problems is None else problems
        check_numbers("events", 0.0, window_ms=window_ms)
        window_us = round(window_ms * 1e3)
        input = EventInput(
            representation, num_steps, window_us, _largest_sensor(split, clips, size), size, newest_first, pad
        )
        sequential = is_sequential(sampling, input)

        def cut(number: int, clip: Clip, first_id: int) -> np.ndarray:
            if clip.from_first is not None or not sequential:
                return label_windows(number, clip.times, window_us, first_id)
            return sequential_windows(number, clip.times, window_us, first_id, clip.recorded, num_steps)

        windows = cut_windows(split, clips, cut, num_steps)
        for number, clip in enumerate(clips):
            report_label_times(clip, windows_of(windows, number), problems)
        if not input.representation.gray_images:
            _report_sensors(split, clips, input.factor, problems)
        common: dict[str, Any] = {"sequential": sequential, "augment": augment, "problems": problems}
        super().__init__(split, clips, windows, input, class_names, expected_images, **common)

    def audit(self, recording: Path, problems: Problems) -> Tally | None:
        return self._audit(recording, problems, None)

    def _audit(
        self,
        recording: Path,
        problems: Problems,
        sensor: tuple[int, int] | None,
        max_unpacked_mb: int = MAX_UNPACKED_MB,
    ) -> Tally | None:
        number = next((k for k, clip in enumerate(self._clips) if clip.reader.path == recording), None)
        windows = windows_of(self._windows, -1 if number is None else number)
        windows = windows[windows["image_id"] > 0]
        shortest = int((windows["t1"] - windows["t0"]).min()) if len(windows) else None
        tally = audit_events(recording, problems, sensor, shortest, max_unpacked_mb)
        if number is not None and tally and tally.events and len(windows):
            known = self._clips[number].recorded
            shift = tally.first_us - known.first_us if known else 0  # offset of the clip's clock from that of the file
            recorded = Span(tally.first_us - shift, tally.last_us - shift)
            silences = [(begin - shift, end - shift) for begin, end in tally.silences]
            if problem := label_time_problem(recording, windows, recorded, silences):
                problems.replace(problem)
        return tally


def is_sequential(sampling: str, input: WindowInput) -> bool:
    """Whether `sampling` is "sequential". UserError for an unknown name, and for reversed steps in sequence."""
    if sampling not in SAMPLINGS:
        raise UserError(none_of(f"sampling = {sampling!r}", sampling, SAMPLINGS))
    if input.newest_first and sampling == "sequential":
        raise UserError("newest_first = true: it reverses the steps of a window. Unset it for sequential sampling")
    return sampling == "sequential"


def _largest_sensor(split: str, clips: list[Clip], size: Sequence[int] | None) -> tuple[int, int]:
    """The largest height and width of all clips. Their coordinates are divided by one common factor, so that object
    sizes stay comparable."""
    sensors = {clip.sensor: clip.name for clip in clips}
    if not sensors:
        raise UserError(f"split {split!r}: no recording there")
    if size is None and len(sensors) > 1:
        found = ", ".join(f"{name}: {w}x{h}" for (h, w), name in sensors.items())
        raise UserError(f"split {split!r}: clips of different sensors ({found}). Set `size`")
    return max(height for height, _ in sensors), max(width for _, width in sensors)


def _report_sensors(split: str, clips: list[Clip], factor: int, problems: Problems) -> None:
    counts = Counter(f"{width}x{height}" for height, width in (clip.sensor for clip in clips))
    if len(counts) > 1:
        what = ", ".join(f"{count} of {sensor}" for sensor, count in counts.items())
        remedy = f"All coordinates are divided by {factor}; leave recordings of another sensor out"
        problems.add(Problem("recordings of several sensors", f"split {split!r}", "", what, remedy))
