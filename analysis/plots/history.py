"""Plot AP against the length of history."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .figure import title_of_axes, write_figure


def plot_history(history: Mapping[str, Any], path: str | Path, title: str) -> None:
    """Write a png of AP50 and AP over the windows of history.

    history: what history.json holds (`engine.history`). title: run, split and protocol of the evaluation.
    """
    points = sorted(history["points"], key=lambda point: point["mean_windows"])
    seen = [point["mean_windows"] for point in points]
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for key, colour in (("AP50", "tab:blue"), ("AP", "tab:orange")):
        if all(point[key] is None for point in points):
            continue
        values = [np.nan if point[key] is None else point[key] for point in points]
        axes.plot(seen, values, "o-", color=colour, markersize=4, label=f"{key}: {values[-1]:.3f} with the most")
    axes.set(xlabel="windows since the state was reset, mean over the labels", ylabel="AP", ylim=(0, None))
    axes.set(xscale="log")
    names = [f"{point['windows']}\n{point['mean_ms']:.0f} ms" for point in points]
    axes.set_xticks(seen, names, minor=False)
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.3)
    conditions = f"{points[-1]['labels']} label times, windows of {history['sampling']} sampling"
    title_of_axes(axes, title, conditions if history["complete"] else f"{conditions}: unfinished")
    write_figure(figure, path)
