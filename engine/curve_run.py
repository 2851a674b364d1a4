"""The curve of AP against T of an evaluation, and its curves under noise: their run and their files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from analysis.energy.estimate import Estimate
from analysis.plots.energy import plot_energy
from analysis.plots.noise import plot_robustness
from analysis.plots.steps import plot_curve
from models import Detector
from scoring.evaluator import Evaluator

from . import distributed
from .curve import Curve
from .curve_options import CurveOptions
from .robustness import noisy, robustness

PLOTS = {"curve": plot_curve, "robustness": plot_robustness}
Files = dict[str, str | Callable[[Path], object]]  # {name: text, or a function that writes the file}


@dataclass
class CurveRun:
    """The curve of one evaluation, and with densities further ones under noise: their run, and their files.

    model, ann:  the detector and the network that it was converted from, if it was
    options:     T, densities of noise, early exit
    new_evaluator: a fresh evaluator of the split
    protocol, settings: of the evaluation; the settings stand in the files beside the results
    source:      run, checkpoint and options, for titles
    """

    model: Detector
    ann: Detector | None
    options: CurveOptions
    new_evaluator: Callable[[], Evaluator]
    protocol: str
    settings: dict[str, Any]
    source: str
    curves: dict[float, Curve] = field(default_factory=dict)  # by density

    @property
    def curve(self) -> Curve:
        return self.curves[0.0]

    def run(
        self,
        loader: DataLoader,
        device: torch.device,
        precision: str,
        save: Callable[[Files], object] | None,
        estimate: Estimate | None = None,
    ) -> None:
        """Run all curves, with a progress bar. save: called with the files as they are, see `Curve.run`; estimate:
        counts the curve without noise.

        KeyboardInterrupt with one line on what is there.
        """
        steps, early_exit, densities = self.options.steps, self.options.early_exit, self.options.densities or [0.0]
        images = sum(map(len, loader.batch_sampler))  # type: ignore[arg-type]
        shown = distributed.is_main() and sys.stderr.isatty()
        bar = partial(
            tqdm, total=images * steps[-1], unit=" image-steps", unit_scale=True, leave=False, disable=not shown
        )
        for density in densities:
            noise = noisy(self.model, self.ann, density) if density else nullcontext()
            counting = estimate if estimate and not density else nullcontext()
            with noise, counting, bar(desc=f"noise {density:g}" if self.options.densities else None) as progress:
                cost = {"cost": estimate.so_far} if estimate and not density else {}
                curve = Curve(self.model, steps, self.new_evaluator, self.ann, early_exit, progress.update, **cost)
                self.curves[density] = curve
                try:
                    curve.run(loader, device, precision, save and (lambda: save(self.files(self.results()))))
                    if save and density != densities[-1]:
                        save(self.files(self.results()))
                except KeyboardInterrupt as stop:
                    raise KeyboardInterrupt(self._what_is_there(save is not None)) from stop

    def results(self) -> dict[str, dict[str, Any]]:
        """What curve.json holds, as it is now, and with densities robustness.json, once a curve is complete."""
        results = {"curve": {**self.curve.summary(self.protocol), **self.settings}}
        complete = {d: curve for d, curve in self.curves.items() if curve.complete}
        if self.options.densities and complete:
            summaries = {d: curve.summary(self.protocol) if d else results["curve"] for d, curve in complete.items()}
            results["robustness"] = {**robustness(summaries), **self.settings}
        return results

    def files(self, results: dict[str, dict[str, Any]]) -> Files:
        """{name: content} of the json and the png of each of `results`."""
        title = f"split {self.settings['split']}, protocol {self.protocol}: {self.source}"
        files: Files = {}
        for name, content in results.items():
            files[f"{name}.json"] = json.dumps(content, indent=1) + "\n"
            files[f"{name}.png"] = partial(PLOTS[name], content, title=title)
        if "papers_mJ" in results["curve"]["points"][0]:
            files["ap_over_energy.png"] = partial(plot_energy, results["curve"], title=title)
        return files

    def _what_is_there(self, saved: bool) -> str:
        if not distributed.is_main():
            return f"process {distributed.rank()}; process 0 writes the curve"
        if not self.curve.images:
            return "before the first batch was complete, so there is no curve"
        if not saved:
            return "the files of the earlier evaluation are as they were"
        seen = f"curve.json has {self.curve.images} of {self.curve.evaluators[-1].expected_images} images"
        return f"{seen} so far; the same command begins again"
