"""AP against T for the console and metrics.json: the points of curve.json and robustness.json without their layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEPT = ("complete", "ann", "smallest_T_within_1_percent", "smallest_T_within_1_point", "early_exit", "noise")
OF_LAYERS = ("spikes", "negative_spikes")


def brief(content: Mapping[str, Any]) -> dict[str, Any]:
    """Scores and sums over the layers of the `content` of curve.json or robustness.json."""
    short = {key: content[key] for key in KEPT if key in content}
    for rows in content.keys() & {"points", "densities"}:
        short[rows] = [{key: value for key, value in row.items() if key not in OF_LAYERS} for row in content[rows]]
    return short


def curve_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of the table of `metrics` with an entry `curve`, and `robustness`: at each T, and at each density of noise
    at the largest T."""
    rows = []
    if curve := metrics.get("curve"):
        if curve["ann"]:
            rows.append(("ANN", _scores(curve["ann"])))
        for point in curve["points"]:
            steps = f", mean T {point['mean_T']:.1f}" if "mean_T" in point else ""
            spikes = f"{point['spikes_per_neuron']:.3g} spikes per neuron"
            rows.append((f"  T={point['T']}", f"{_scores(point)}, {spikes}{steps}"))
        if curve["ann"]:
            near = [curve.get(f"smallest_T_within_1_{what}") for what in ("percent", "point")]
            percent, point = ("none" if T is None else f"T={T}" for T in near)
            rows.append(("near the ANN's AP50", f"within 1 %: {percent}; within .01: {point}"))
    for row in metrics.get("robustness", {}).get("densities", []):
        last = row["points"][-1]
        ann = f"; ANN: {_scores(row['ann'])}" if row["ann"] else ""
        rows.append((f"  noise {row['density']:g}", f"{_scores(last)} at T={last['T']}{ann}"))
    return rows


def _scores(point: Mapping[str, Any]) -> str:
    """AP50, and AP where the protocol has it."""
    return ", ".join(f"{key} {point[key]:.3f}" for key in ("AP50", "AP") if point[key] is not None) or "no box counts"
