"""AP against T, noise, history and windows for the console and metrics.json: the points of curve.json, robustness.json,
history.json and windows.json, without their layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.energy.table import mj

WITHIN = ("smallest_T_within_1_percent", "smallest_T_within_1_point")
KEPT = ("complete", "ann", *WITHIN, "early_exit", "noise", "sampling")
OF_LAYERS = ("spikes", "negative_spikes")


def brief(content: Mapping[str, Any]) -> dict[str, Any]:
    """Scores and sums over the layers of the `content` of one of these files."""
    short = {key: content[key] for key in KEPT if key in content}
    for rows in content.keys() & {"points", "densities"}:
        short[rows] = [{key: value for key, value in row.items() if key not in OF_LAYERS} for row in content[rows]]
    return short


def curve_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of the table of `metrics` with an entry `curve`, `robustness` and `history`: at each T, at each density
    of noise at the largest T, and at each length of history and of windows."""
    rows = []
    if curve := metrics.get("curve"):
        if curve["ann"]:
            rows.append(("ANN", _scores(curve["ann"])))
        for point in curve["points"]:
            steps = f", mean T {point['mean_T']:.1f}" if "mean_T" in point else ""
            spikes = f"{point['spikes_per_neuron']:.3g} spikes per neuron"
            energy = f", {mj(point['papers_mJ'])} as in papers" if "papers_mJ" in point else ""
            rows.append((f"  T={point['T']}", f"{_scores(point)}, {spikes}{steps}{energy}"))
        if curve["ann"]:
            near = [curve.get(f"smallest_T_within_1_{what}") for what in ("percent", "point")]
            percent, point = ("none" if T is None else f"T={T}" for T in near)
            rows.append(("near the ANN's AP50", f"within 1 %: {percent}; within .01: {point}"))
    for row in metrics.get("robustness", {}).get("densities", []):
        last = row["points"][-1]
        ann = f"; ANN: {_scores(row['ann'])}" if row["ann"] else ""
        rows.append((f"  noise {row['density']:g}", f"{_scores(last)} at T={last['T']}{ann}"))
    for point in metrics.get("history", {}).get("points", []):
        mean = f"{point['mean_windows']:.1f} windows, {point['mean_ms']:.0f} ms"
        fewer = (
            f", {point['labels_with_fewer']} of {point['labels']} labels fewer" if point["labels_with_fewer"] else ""
        )
        cost = f"{point['windows_run']} windows run"
        rows.append((f"  history {point['windows']}", f"{_scores(point)}; {mean} on average{fewer}; {cost}"))
    for point in metrics.get("windows", {}).get("points", []):
        trained = ", as in the training" if point["trained"] else ""
        rows.append((f"  windows of {point['window_ms']:g} ms", f"{_scores(point)}{trained}"))
    return rows


def _scores(point: Mapping[str, Any]) -> str:
    """AP50, and AP where the protocol has it."""
    return ", ".join(f"{key} {point[key]:.3f}" for key in ("AP50", "AP") if point[key] is not None) or "no box counts"
