"""Plot the firing rate of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from .figure import titled, verbatim, write_figure


def plot_firing_rates(rates: Mapping[str, float], path: str | Path, title: str) -> None:
    """Write a png with a bar per layer, the first layer of the network on top.

    rates: {layer: share of outputs that are not 0}. title: run, split and protocol.
    """
    figure = Figure(figsize=(8, 1.6 + 0.19 * len(rates)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(rates))
    axes.barh(places, list(rates.values()), color="tab:green", height=0.7)
    axes.set_yticks(places, list(rates), fontsize=7)
    verbatim(axes.get_yticklabels())
    for place, rate in zip(places, rates.values(), strict=True):
        axes.text(rate, place, f" {rate:.3f}", va="center", fontsize=7)
    axes.set(xlabel="firing rate: share of outputs that are not 0", ylim=(len(rates) - 0.4, -0.6))
    axes.set_xlim(0, max([*rates.values(), 1e-3]) * 1.12)
    axes.grid(axis="x", alpha=0.3)
    titled(figure, title, f"{len(rates)} layers, mean {sum(rates.values()) / len(rates):.3f}")
    write_figure(figure, path)
