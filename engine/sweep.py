"""Evaluations of one detector on variants of a split, one after the other: AP against a quantity of the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from data import DetectionDataset
from models import Detector
from scoring.evaluator import Evaluator

from . import distributed
from .curve_run import Files
from .recorded import Recorded, evaluate_recorded


@dataclass(frozen=True)
class Variant:
    """title: of its progress bar. at: the quantity, first in its point; counts: entries behind the scores.
    own: what layers did and the detections of this one are those of the whole evaluation."""

    title: str
    data: DetectionDataset
    own: bool
    at: Mapping[str, Any]
    counts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """name: of NAME.json and NAME.png. plot: (content of the file, path, title=). conditions: entries of the file.
    variants: made one at a time; `number` of them, one of which is `own`."""

    name: str
    plot: Callable[..., object]
    number: int
    variants: Iterator[Variant]
    conditions: Mapping[str, Any] = field(default_factory=dict)


class SweepRun:
    """The run of a `Sweep`, and its files.

    Args:
        model: in evaluation mode.
        load: makes a loader of this rank's share of a dataset.
        protocol, settings: of the evaluation; the settings stand in the file beside the results.
        source: run, checkpoint and options, for the title.

    After `run`, `evaluator` and what the method returns are those of the variant that is `own`.
    """

    def __init__(
        self,
        model: Detector,
        sweep: Sweep,
        load: Callable[[DetectionDataset], DataLoader],
        new_evaluator: Callable[[], Evaluator],
        protocol: str,
        settings: dict[str, Any],
        source: str,
    ):
        self.model, self.sweep, self.load, self.new_evaluator = model, sweep, load, new_evaluator
        self.protocol, self.settings, self.source = protocol, settings, source
        self.points: list[dict[str, Any]] = []

    def run(
        self,
        device: torch.device,
        precision: str,
        save: Callable[[Files], object] | None = None,
        operations: bool = False,
        energy: str | None = None,
    ) -> Recorded:
        """save: called with the files as they are after each variant but the last. operations, energy: of the variant
        that is `own`, see `evaluate_recorded`."""
        for variant in self.sweep.variants:
            evaluator, loader, title = self.new_evaluator(), self.load(variant.data), variant.title
            counted = (operations, title, energy) if variant.own else (False, title, None)
            recorded = evaluate_recorded(self.model, loader, evaluator, device, precision, *counted)
            if variant.own:
                self.evaluator, found = evaluator, recorded
            if distributed.is_main():
                scores = evaluator.score(self.protocol)
                scored = {key: scores.get(key) for key in ("AP50", "AP75", "AP")}
                self.points.append({**variant.at, **scored, **variant.counts})
                if save is not None and len(self.points) < self.sweep.number:
                    save(self.files(self.results()))
        return found

    def results(self) -> dict[str, dict[str, Any]]:
        """{name of the sweep: what its json holds, as it is now}."""
        done = {"complete": len(self.points) == self.sweep.number, **self.sweep.conditions, "protocol": self.protocol}
        return {self.sweep.name: {**done, "points": self.points, **self.settings}}

    def files(self, results: dict[str, dict[str, Any]]) -> Files:
        """{name: content} of the json and the png."""
        name, content = self.sweep.name, results[self.sweep.name]
        title = f"split {self.settings['split']}, protocol {self.protocol}: {self.source}"
        plot = partial(self.sweep.plot, content, title=title)
        return {f"{name}.json": json.dumps(content, indent=1) + "\n", f"{name}.png": plot}
