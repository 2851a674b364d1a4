"""Plot precision over recall, one curve per class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..draw import class_colours, legible
from .figure import title_of_axes, verbatim, write_figure


def plot_precision_recall(
    curves: Mapping[str, Any], path: str | Path, title: str, ap: Mapping[str, float | None], iou_threshold: float = 0.5
) -> None:
    """Write a png with one curve per class.

    curves: {class name: scoring.voc_ap.Curve} of all classes, in the order of their labels, matched at `iou_threshold`.
    title:  run, split and protocol of the evaluation.
    ap:     {class name: AP50 of the protocol}, for the legend; None for a class without truth, which has no curve.

    With more than 20 classes the ten best and the ten worst are named, each in the colour of its class, and the others
    are grey.
    """
    colours = dict(zip(curves, class_colours(len(curves)), strict=True))
    areas = {name: ap.get(name) or 0.0 for name, curve in curves.items() if curve.positives}
    by_area = sorted(areas, key=lambda name: -areas[name])
    named = by_area if len(by_area) <= 20 else by_area[:10] + by_area[-10:]
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.add_subplot()
    lines = {}
    for name in [*(n for n in by_area if n not in named), *named]:  # grey ones below
        recall, precision = np.r_[0, curves[name].recall], np.r_[1, curves[name].precision]
        style: dict[str, Any] = {"color": "0.85", "linewidth": 0.8}
        if name in named:
            style = {"color": np.array(colours[name]) / 255, "linewidth": 1.6}
        (lines[name],) = axes.plot(recall, precision, **style)
    boxes = sum(curve.positives for curve in curves.values())
    kind = "class" if len(areas) == 1 else "classes"
    mean = f"mean AP50 {np.mean(list(areas.values())):.3f} of {len(areas)} {kind}" if areas else "no truth"
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
    title_of_axes(axes, title, f"IoU ≥ {iou_threshold:g}, {boxes} boxes, {mean}")
    axes.grid(alpha=0.3)
    if areas:
        labels = [f"{areas[name]:.3f}  {legible(name)}" for name in named]
        legend = figure.legend([lines[n] for n in named], labels, loc="outside right upper", fontsize=8, frameon=False)
        verbatim(legend.get_texts())
    write_figure(figure, path)
