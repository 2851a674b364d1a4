"""Plot precision, recall and F1 over the confidence, one curve per class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..draw import class_colours, legible
from .figure import titled, verbatim, write_figure

FIGURES = {"precision": "precision", "recall": "recall", "f1": "F1"}
NAMED = 20


def plot_confidence(confidence: Mapping[str, Any], path: str | Path, title: str, iou_threshold: float) -> None:
    """Write a png of three panels over the score; a point marks the best threshold of each class.

    confidence: `scoring.confidence.by_confidence`. title: run, split and protocol. With more than 20 classes only the
    mean is named, and all classes are grey.
    """
    thresholds, best = confidence["thresholds"], confidence["best"]
    colours = dict(zip(best, class_colours(len(best)), strict=True))
    shown = {name: of for name, of in confidence["classes"].items() if of["f1"][0] is not None}
    few = len(shown) <= NAMED
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    lines, names = [], []
    for axes, (key, label) in zip(figure.subplots(1, 3, sharex=True, sharey=True), FIGURES.items(), strict=True):
        for name, of in shown.items():
            style: dict[str, Any] = {"color": np.array(colours[name]) / 255 if few else "0.8", "linewidth": 1.4}
            (line,) = axes.plot(thresholds, _numbers(of[key]), **style)
            if best[name]["threshold"] is not None:
                axes.plot([best[name]["threshold"]], [best[name][key]], "o", markersize=4, color=line.get_color())
            if few and key == "f1":
                lines.append(line)
                names.append(f"{_best(best[name])}  {legible(name)}")
        (line,) = axes.plot(thresholds, _numbers(confidence["mean"][key]), color="black", linewidth=2, linestyle="--")
        axes.set(xlabel="score from which detections count", ylabel=label, xlim=(0, 1), ylim=(0, 1.03))
        axes.grid(alpha=0.3)
    titled(figure, title, f"IoU ≥ {iou_threshold:g}; points: largest F1 of a class, at its score")
    labels = [*names, f"{_best(confidence['best_mean'])}  mean of {len(shown)}"]
    legend = figure.legend([*lines, line], labels, loc="outside right upper", fontsize=8, frameon=False)
    verbatim(legend.get_texts())
    write_figure(figure, path)


def _best(of: Mapping[str, Any]) -> str:
    return "none" if of["threshold"] is None else f"F1 {of['f1']:.3f} at {of['threshold']:.3f}"


def _numbers(values: list[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]
