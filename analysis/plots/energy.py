"""Plot AP against energy: the points of a curve over T."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from .figure import titled, write_figure


def plot_energy(curve: Mapping[str, Any], path: str | Path, title: str) -> None:
    """Write a png of AP50 (and AP) over the energy per image, as papers count it and with the movement of data.

    curve: what curve.json holds, with `papers_mJ`, `movement_low_mJ` and `movement_high_mJ` in its points. title: run,
    split and protocol.
    """
    points = curve["points"]
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for key, colour in (("AP50", "tab:blue"), ("AP", "tab:orange")):
        of = [point for point in points if point[key] is not None]
        if not of:
            continue
        ap, papers = [point[key] for point in of], [point["papers_mJ"] for point in of]
        low, high = ([point[f"movement_{end}_mJ"] for point in of] for end in ("low", "high"))
        left.plot(papers, ap, "o-", color=colour, markersize=4, label=key)
        right.plot(low, ap, "o--", color=colour, markersize=4, label=f"{key}, with reuse")
        right.plot(high, ap, "o-", color=colour, markersize=4, label=f"{key}, without")
        for x, axes in ((papers, left), (high, right)):
            for energy, value, point in zip(x, ap, of, strict=True):
                words, above = f"T = {point['T']}", (0, 4)
                axes.annotate(words, (energy, value), above, textcoords="offset points", fontsize=7, ha="center")
    left.set(xlabel="mJ per image, as in papers", ylabel="AP", xscale="log")
    right.set(xlabel="mJ per image, moving data, int8 weights", xscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.margins(x=0.12, y=0.12)
        for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            which(LogFormatter(minor_thresholds=(1.5, 0.6)))  # 2 and 3, not 2 x 10^0
        if axes.lines:
            axes.legend(fontsize=8, frameon=False)
    left.set_ylim(0, None)
    titled(figure, title, "energy is estimated from counts, not measured")
    write_figure(figure, path)
