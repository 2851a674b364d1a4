"""AP of recordings against the length of the window of events, of a detector that was trained with another one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from analysis.window_plot import plot_windows
from data import DetectionDataset
from data.events.dataset import EventDataset
from models import Detector
from registry import UserError
from scoring.evaluator import Evaluator

from . import distributed
from .curve_run import Files
from .recorded import Recorded, evaluate_recorded

Lengths = list[float]  # ms, increasing, that of the training among them


def parse_windows(text: str | None, dataset: DetectionDataset) -> Lengths:
    """ "25,50" -> [25, 50, 250] of a `dataset` with windows of 250 ms; [] of None. UserError for values that cannot be,
    and where windows have no length: of images, of frames made before, of whole recordings."""
    if text is None:
        return []
    if not isinstance(dataset, EventDataset) or dataset.from_first:
        raise UserError(f"--windows {text}: the samples of this dataset are no windows of events. Leave it out")
    try:
        lengths = {float(part) for part in text.split(",")}
    except ValueError:
        lengths = set()
    if not lengths or not all(1e-3 <= length < 1e6 for length in lengths):
        raise UserError(f"--windows {text}: give lengths in milliseconds with commas between them, as in 25,50,100")
    return sorted({*lengths, dataset.input.window_us / 1e3})


class WindowsRun:
    """Evaluations of one detector with windows of several lengths, one after the other; the T frames of a window share
    its length. Labels are the same.

    Args:
        model: in evaluation mode.
        dataset: the split, with windows as long as in the training.
        with_window: makes the split with windows of another length in ms.
        load: makes a loader of this rank's share of a dataset.
        protocol, settings: of the evaluation; the settings stand in the file beside the results.
        source: run, checkpoint and options, for the title.

    After `run`, `evaluator` and what the method returns are those of the length of the training.
    """

    def __init__(
        self,
        model: Detector,
        dataset: DetectionDataset,
        lengths: Lengths,
        with_window: Callable[[float], DetectionDataset],
        load: Callable[[DetectionDataset], DataLoader],
        new_evaluator: Callable[[], Evaluator],
        protocol: str,
        settings: dict[str, Any],
        source: str,
    ):
        assert isinstance(dataset, EventDataset)  # `parse_windows` has said so
        self.model, self.dataset, self.lengths, self.with_window, self.load = model, dataset, lengths, with_window, load
        self.trained = dataset.input.window_us / 1e3
        self.new_evaluator, self.protocol, self.settings, self.source = new_evaluator, protocol, settings, source
        self.points: list[dict[str, Any]] = []

    def run(
        self,
        device: torch.device,
        precision: str,
        save: Callable[[Files], object] | None = None,
        operations: bool = False,
        energy: str | None = None,
    ) -> Recorded:
        """save: called with the files as they are after each length but the last. operations, energy: of the length of
        the training, see `evaluate_recorded`."""
        for length, data in self._splits():
            evaluator, own, title = self.new_evaluator(), length == self.trained, f"windows of {length:g} ms"
            counted = (operations, title, energy) if own else (False, title, None)
            recorded = evaluate_recorded(self.model, self.load(data), evaluator, device, precision, *counted)
            if own:
                self.evaluator, of_training = evaluator, recorded
            if distributed.is_main():
                scores = evaluator.score(self.protocol)
                of_length = {key: scores.get(key) for key in ("AP50", "AP75", "AP")}
                self.points.append({"window_ms": length, "trained": own, **of_length, "windows_run": len(data)})
                if save is not None and len(self.points) < len(self.lengths):
                    save(self.files(self.results()))
        return of_training

    def _splits(self) -> Iterator[tuple[float, DetectionDataset]]:
        for length in self.lengths:
            yield length, self.dataset if length == self.trained else self.with_window(length)

    def results(self) -> dict[str, dict[str, Any]]:
        """What windows.json holds, as it is now."""
        done = len(self.points) == len(self.lengths)
        return {"windows": {"complete": done, "protocol": self.protocol, "points": self.points, **self.settings}}

    def files(self, results: dict[str, dict[str, Any]]) -> Files:
        """{name: content} of windows.json and windows.png."""
        content = results["windows"]
        title = f"split {self.settings['split']}, protocol {self.protocol}: {self.source}"
        return {
            "windows.json": json.dumps(content, indent=1) + "\n",
            "windows.png": partial(plot_windows, content, title=title),
        }
