"""Plot of `tools.gap`: AP over steps of a spiking network and its twin, shares and gradients of each neuron layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..draw import legible
from .figure import titled, verbatim, write_figure

SHARES = {"dead": "tab:gray", "inside": "tab:green", "saturated": "tab:red"}
SIDES = {"spiking": "tab:blue", "twin": "tab:orange"}
LEAST = 1e-4  # what smaller ratios are shown as: 0 has no place on a logarithmic axis
MOMENTS = "0.75", "0.45", "black"  # start, middle, end


def plot_gap(gap: Mapping[str, Any], path: str | Path, title: str) -> None:
    """Write a png: left AP over steps; right, a row per neuron layer from the input down to the head, its shares of
    dead, inside and saturated elements at the end, and at start, middle and end its gradient against the twin's, and
    its direction where there is one.

    gap: what gap.json holds.
    """
    layers = gap["points"][-1]["layers"]
    height, directed = max(4.5, 1.5 + 0.185 * len(layers)), any("direction" in row for row in layers.values())
    figure = Figure(figsize=(18 if directed else 15, height), layout="constrained")
    rows = [4.5, max(height - 4.5, 1e-3)]
    grid = figure.add_gridspec(2, 3 + directed, width_ratios=[1.1, 1, *[0.9] * (1 + directed)], height_ratios=rows)
    curves, shares = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[:, 1])
    _curves(curves, gap)
    _shares(shares, layers)
    gradients = figure.add_subplot(grid[:, 2], sharey=shares)
    _over_layers(gradients, gap["points"], "ratio", LEAST)
    gradients.axvline(1, color=SIDES["twin"], linestyle="--", linewidth=1)
    gradients.set(xlabel="gradient norm of its weights / the twin's", xscale="log")
    if directed:
        directions = figure.add_subplot(grid[:, 3], sharey=shares)
        _over_layers(directions, gap["points"], "direction", -1)
        directions.set(
            xlabel="cosine of gradient and that without rounding", xlim=(min(0, directions.get_xlim()[0]), 1)
        )
    titled(figure, title, f"{gap['images']} images of the training split, in training mode")
    write_figure(figure, path)


def _curves(axes: Axes, gap: Mapping[str, Any]) -> None:
    for side, points in gap["curves"].items():
        key = "AP" if all("AP" in point for point in points) else "AP50"
        values = [point[key] for point in points]
        label = f"{side}: {key} {values[-1]:.3f} after {points[-1]['step']} steps" if points else side
        axes.plot([point["step"] for point in points], values, "o-", color=SIDES[side], markersize=3, label=label)
    axes.set(xlabel="steps", ylabel="AP of the validation split", ylim=(0, None))
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.grid(alpha=0.3)


def _shares(axes: Axes, layers: Mapping[str, Mapping[str, float]]) -> None:
    rows, left = np.arange(len(layers)), np.zeros(len(layers))
    for name, colour in SHARES.items():
        values = np.array([row.get(name, 0.0) for row in layers.values()])
        axes.barh(rows, values, 0.8, left, color=colour, label=name)
        left += values
    axes.set_yticks(rows, [legible(name.removesuffix(".neuron"), 40) for name in layers], fontsize=7)
    verbatim(axes.get_yticklabels())
    axes.set(xlabel="share of elements, at the end", xlim=(0, 1), ylim=(len(layers) - 0.4, -0.6))
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))


def _over_layers(axes: Axes, points: list[Mapping[str, Any]], key: str, least: float) -> None:
    """A number of each layer at start, middle and end; those below `least` are drawn there."""
    names = list(points[-1]["layers"])
    chosen = [points[0], points[len(points) // 2], points[-1]]
    for colour, point in zip(MOMENTS, chosen, strict=True):
        found = [point["layers"].get(name, {}).get(key) for name in names]
        values = [np.nan if value is None else max(value, least) for value in found]
        label = f"epoch {point['epoch']}"
        axes.plot(values, np.arange(len(names)), "o-", color=colour, markersize=3, linewidth=0.8, label=label)
    axes.tick_params(labelleft=False)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
