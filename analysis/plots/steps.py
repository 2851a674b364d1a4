"""Plot AP against the number of time steps T."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from .figure import title_of_axes, write_figure


def plot_curve(curve: Mapping[str, Any], path: str | Path, title: str) -> None:
    """Write a png of AP50 and AP over T, beside the ANN's, and of the spikes per neuron below.

    curve: what `engine.curve.Curve.summary` gives. title: run, split and protocol of the evaluation.
    """
    points = curve["points"]
    steps = [point["T"] for point in points]
    figure = Figure(figsize=(7.5, 6.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    for key, colour in (("AP50", "tab:blue"), ("AP", "tab:orange")):
        if all(point[key] is None for point in points):
            continue
        values = [np.nan if point[key] is None else point[key] for point in points]
        above.plot(steps, values, "o-", color=colour, markersize=4, label=f"{key}: {values[-1]:.3f} at T = {steps[-1]}")
        if curve["ann"] and curve["ann"][key] is not None:
            ann = curve["ann"][key]
            above.axhline(ann, color=colour, linestyle="--", linewidth=1, label=f"{key} of the ANN: {ann:.3f}")
    near = curve.get("smallest_T_within_1_percent")
    if near is not None:
        above.axvline(near, color="0.5", linestyle=":", label=f"within 1 % of the ANN's AP50: T = {near}")
    above.set(ylabel="AP", ylim=(0, None))
    above.legend(fontsize=8, frameon=False)
    images = f"{curve['images']} of {curve['expected_images']} images"
    title_of_axes(above, title, images if curve["complete"] else f"{images}: unfinished")

    neurons = curve["neurons"]
    for layer, count in neurons.items():
        below.plot(steps, [point["spikes"][layer] / count for point in points], color="0.8", linewidth=0.8)
    below.plot([], [], color="0.8", linewidth=0.8, label="one layer")
    of_all = [point["spikes_per_neuron"] for point in points]
    below.plot(steps, of_all, "o-", color="tab:green", markersize=4, label=f"all {len(neurons)} layers")
    below.set(xlabel="T", ylabel="spikes per neuron", xscale="log")
    if any(of_all):
        below.set_yscale("log")
        below.yaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_formatter=NullFormatter()
        )
    below.set_xticks(steps, [str(T) for T in steps], minor=False)
    below.set_xticks([], minor=True)
    below.legend(fontsize=8, frameon=False)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    write_figure(figure, path)
