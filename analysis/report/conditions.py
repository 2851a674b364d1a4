"""AP against T, energy, noise, the length of history and that of the window: what metrics.json has of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..draw import PALETTE
from .chart import Line, chart
from .cost import millijoule
from .markup import Markup, join, number, table, tag

SCORES = ("AP50", "AP")
COLOURS = dict(zip(SCORES, (PALETTE[6], PALETTE[4]), strict=True))


def conditions(metrics: dict[str, Any]) -> Markup:
    parts = [_steps(metrics), _noise(metrics), _history(metrics), _windows(metrics)]
    return join(part for part in parts if part)


def _steps(metrics: dict[str, Any]) -> Markup:
    if not (curve := metrics.get("curve")):
        return Markup()
    points, ann = curve["points"], curve.get("ann")
    priced = all("papers_mJ" in point for point in points)
    header = ["after", *SCORES, "spikes per neuron"]
    rows = [[f"T = {p['T']}", *_scores(p), number(p["spikes_per_neuron"])] for p in points]
    if priced:
        header += ["additions, million", "mJ as in papers", "mJ moving data, int8"]
        for row, p in zip(rows, points, strict=True):
            bounds = [p["movement_low_mJ"], p["movement_high_mJ"]]
            row += [f"{p['synops'] / 1e6:,.2f}", millijoule(p["papers_mJ"]), millijoule(bounds)]
    if ann:
        rows.append(["ANN", *_scores(ann), *["–"] * (len(header) - 3)])
    charts = [_over([p["T"] for p in points], points, "T", "AP over the number of time steps T.")]
    if priced:
        papers, moving = [p["papers_mJ"] for p in points], [p["movement_high_mJ"] for p in points]
        charts.append(_over(papers, points, "mJ per image, as in papers", "AP over the energy as papers estimate it."))
        charts.append(_over(moving, points, "mJ per image", "AP over the energy of moving data without reuse, int8."))
    else:
        spikes = [p["spikes_per_neuron"] for p in points]
        charts.append(_over(spikes, points, "spikes per neuron and image", "AP over the number of spikes."))
    return tag("h3", "Time steps") + table(header, rows, "steps") + tag("div", join(charts), class_="charts")


def _noise(metrics: dict[str, Any]) -> Markup:
    if not (robustness := metrics.get("robustness")):
        return Markup()
    rows = [
        [f"{row['density']:g}", f"T = {point['T']}", *_scores(point)]
        for row in robustness["densities"]
        for point in row["points"]
    ]
    last = [row["points"][-1] for row in robustness["densities"]]
    densities = [row["density"] for row in robustness["densities"]]
    drawn = _over(
        densities, last, "share of pixels that are noise", "AP under salt-and-pepper noise, at the largest T."
    )
    shown = table(["noise", "after", *SCORES], rows, "noise", 2)
    return tag("h3", "Noise") + shown + tag("div", drawn, class_="charts")


def _history(metrics: dict[str, Any]) -> Markup:
    if not (history := metrics.get("history")):
        return Markup()
    points = history["points"]
    rows = [
        [
            p["windows"],
            *_scores(p),
            number(p["mean_windows"], 1),
            number(p["mean_ms"], 0),
            number(p["labels_with_fewer"]),
        ]
        for p in points
    ]
    header = ["windows", *SCORES, "mean windows", "mean ms", "labels with fewer"]
    x, label = [p["mean_windows"] for p in points], "windows since the state was reset, mean over the labels"
    drawn = _over(x, points, label, "AP over the length of history.")
    shown = table(header, rows, "history")
    return tag("h3", "Length of history") + shown + tag("div", drawn, class_="charts")


def _windows(metrics: dict[str, Any]) -> Markup:
    if not (windows := metrics.get("windows")):
        return Markup()
    points = windows["points"]
    rows = [[f"{p['window_ms']:g} ms{' (trained)' * p['trained']}", *_scores(p)] for p in points]
    x = [p["window_ms"] for p in points]
    drawn = _over(x, points, "length of a window, ms", "AP over the length of the window of events.")
    shown = table(["window", *SCORES], rows, "windows")
    return tag("h3", "Length of the window") + shown + tag("div", drawn, class_="charts")


def _scores(point: dict[str, Any]) -> list[str]:
    return [number(point[key]) for key in SCORES]


def _over(x: Sequence[float], points: Sequence[dict[str, Any]], x_label: str, caption: str) -> Markup:
    lines = [
        Line(key, x, [p[key] for p in points], COLOURS[key], dots=True)
        for key in SCORES
        if any(p[key] is not None for p in points)
    ]
    wide = min(x) > 0 and max(x) > 20 * min(x)
    names = ", ".join(f"{line.name} {'blue' if line.name == 'AP50' else 'orange'}" for line in lines)
    return chart(lines, x_label, "AP", f"{caption} {names}." if names else caption, unit=False, logarithmic=wide)
