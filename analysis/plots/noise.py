"""Plot AP against the density of noise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from .figure import title_of_axes, write_figure


def plot_robustness(robustness: Mapping[str, Any], path: str | Path, title: str) -> None:
    """Write a png of AP50 over the density of noise, at each T, beside the ANN's.

    robustness: what robustness.json holds (`engine.robustness`). title: run, split and protocol of the evaluation.
    """
    rows = robustness["densities"]
    densities = [row["density"] for row in rows]
    steps = [point["T"] for point in rows[0]["points"]]
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for k, T in enumerate(steps):
        values = [np.nan if row["points"][k]["AP50"] is None else row["points"][k]["AP50"] for row in rows]
        shade = colormaps["viridis"](0.85 * (1 - (k + 1) / len(steps)))
        axes.plot(densities, values, "o-", color=shade, markersize=4, label=f"T = {T}")
    if rows[0]["ann"]:
        values = [np.nan if row["ann"]["AP50"] is None else row["ann"]["AP50"] for row in rows]
        axes.plot(densities, values, "s--", color="black", markersize=4, linewidth=1, label="ANN")
    axes.set(xlabel="density of salt-and-pepper noise", ylabel="AP50", ylim=(0, None))
    axes.set_xticks(densities)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    axes.grid(alpha=0.3)
    title_of_axes(axes, title, f"{robustness['images']} of {robustness['expected_images']} images")
    write_figure(figure, path)
