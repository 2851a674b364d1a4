"""Plot AP against the length of the window of events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .figure import titled, write_figure


def plot_windows(windows: Mapping[str, Any], path: str | Path, title: str) -> None:
    """Write a png of AP50 and AP over the length of the window, that of the training marked.

    windows: what windows.json holds (`engine.window_lengths`). title: run, split and protocol.
    """
    points = windows["points"]
    lengths = [point["window_ms"] for point in points]
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for key, colour in (("AP50", "tab:blue"), ("AP", "tab:orange")):
        values = [np.nan if point[key] is None else point[key] for point in points]
        if not np.isnan(values).all():
            axes.plot(lengths, values, "o-", color=colour, markersize=4, label=key)
    for point in points:
        if point["trained"]:
            axes.axvline(point["window_ms"], color="0.5", linestyle=":", label=f"trained: {point['window_ms']:g} ms")
    axes.set(xlabel="length of the window, ms", ylabel="AP", xscale="log", ylim=(0, None))
    axes.set_xticks(lengths, [f"{length:g}" for length in lengths], minor=False)
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.3)
    titled(figure, title, f"windows of {len(points)} lengths" + ("" if windows["complete"] else ": unfinished"))
    write_figure(figure, path)
