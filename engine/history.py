"""AP against the length of history: how many windows the network has seen since its state was reset."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from analysis.plots import plot_history
from data import DetectionDataset
from data.events.window_dataset import WindowDataset
from models import Detector
from registry import UserError
from scoring.evaluator import Evaluator

from . import distributed
from .curve_run import Files
from .recorded import Recorded, evaluate_recorded

Lengths = list[int | None]  # windows, increasing; None: all since the recording began


def parse_history(text: str | None, dataset: DetectionDataset, converted: bool = False) -> Lengths:
    """ "1,2,4,all" -> [1, 2, 4, None]; [] of None. UserError for values that cannot be, and where there is no history:
    of images, and of converted networks."""
    if text is None:
        return []
    words = {part.strip() for part in text.split(",")}
    numbers = sorted({int(word) for word in words - {"all"} if word.isdecimal()} - {0})
    if len(numbers) != len(words - {"all"}):
        raise UserError(f"--history {text}: give numbers of windows above 0, and all, as in --history 1,2,4,8,all")
    if not isinstance(dataset, WindowDataset):
        raise UserError(f"--history {text}: images have no history; it is for recordings of events")
    if converted:
        raise UserError(f"--history {text}: a converted network is simulated from rest for each sample. Leave it out")
    return [*numbers, *([None] if "all" in words else [])]


class HistoryRun:
    """Evaluations of one detector at each of several lengths of history, one after the other.

    Args:
        model: in evaluation mode.
        dataset: the split; `WindowDataset.with_history` gives that of each length.
        load: makes a loader of this rank's share of a dataset.
        protocol, settings: of the evaluation; the settings stand in the file beside the results.
        source: run, checkpoint and options, for the title.

    After `run`, `evaluator` and what the method returns are those of the longest history.
    """

    def __init__(
        self,
        model: Detector,
        dataset: DetectionDataset,
        lengths: Lengths,
        load: Callable[[DetectionDataset], DataLoader],
        new_evaluator: Callable[[], Evaluator],
        protocol: str,
        settings: dict[str, Any],
        source: str,
    ):
        assert isinstance(dataset, WindowDataset)  # `parse_history` has said so
        self.model, self.dataset, self.lengths, self.load = model, dataset, lengths, load
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
        """save: called with the files as they are after each length but the last; energy: of that, see
        `evaluate_recorded`."""
        for length in self.lengths:
            data, self.evaluator = self.dataset.with_history(length), self.new_evaluator()
            title = f"history {name(length)}"
            of_last = energy if length == self.lengths[-1] else None
            recorded = evaluate_recorded(
                self.model, self.load(data), self.evaluator, device, precision, operations, title, of_last
            )
            if distributed.is_main():
                self.points.append(self._point(length, data))
                if save is not None and length != self.lengths[-1]:
                    save(self.files(self.results()))
        return recorded

    def _point(self, length: int | None, data: WindowDataset) -> dict[str, Any]:
        windows, covered_us = data.histories.T
        scores = self.evaluator.score(self.protocol)
        return {
            "windows": name(length),
            **{key: scores.get(key) for key in ("AP50", "AP75", "AP")},
            "labels": len(windows),
            "labels_with_fewer": 0 if length is None else int((windows < length).sum()),
            "mean_windows": float(windows.mean()),
            "mean_ms": float(covered_us.mean()) / 1e3,
            "windows_run": len(data),
        }

    def results(self) -> dict[str, dict[str, Any]]:
        """What history.json holds, as it is now."""
        done = len(self.points) == len(self.lengths)
        counts = {"sampling": "sequential" if self.dataset.sequential else "random", "protocol": self.protocol}
        return {"history": {"complete": done, **counts, "points": self.points, **self.settings}}

    def files(self, results: dict[str, dict[str, Any]]) -> Files:
        """{name: content} of history.json and history.png."""
        content = results["history"]
        title = f"split {self.settings['split']}, protocol {self.protocol}: {self.source}"
        plot = partial(plot_history, content, title=title)
        return {"history.json": json.dumps(content, indent=1) + "\n", "history.png": plot}


def name(length: int | None) -> str:
    return "all" if length is None else str(length)
