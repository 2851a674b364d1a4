"""The zoo's table: a row for each network whose steps have ended, as plain values and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

from .networks import CONVERTED, Network
from .steps import SCORED, SIMULATED, TIMED, TIMED_CONVERTED, Place, commands

MISSING = "-"
HEAD = (
    "network", "neuron", "kind", "T", "D", "params", "AP50", "AP", "rate", "additions", "MACs",
    "papers", "data movement", "twin", "int8", "CPU ms", "MiB", "trained",
)  # fmt: skip
OF_ENERGY = ("synops", "macs", "papers_mJ", "movement_mJ", "twin_mJ", "ann_int8_mJ")


def rows(network: Network, place: Place) -> list[dict[str, Any]]:
    """Of an evaluated network one row, of one that was converted two; none while a step of it is missing."""
    run = place.out / network.name
    record = place.out / f"{network.name}.json"
    ended = json.loads(record.read_text()) if record.is_file() else {}
    if {name for name, _ in commands(network, place)} - ended.keys():
        return []
    row = _row(network, network.kind, run / SCORED) | _measured(run / TIMED)
    row |= {
        "train_minutes": ended["train"]["seconds"] / 60,
        "commits": sorted({step["commit"] for step in ended.values() if step["commit"]}),
    }
    if network.convert is None:
        return [row]
    converted = _row(network, CONVERTED, run / SIMULATED) | _measured(run / TIMED_CONVERTED)
    return [row, converted | {"commits": row["commits"]}]


def _measured(timed: Path) -> dict[str, Any]:
    row = json.loads(timed.read_text())["rows"][0]
    return {
        "cpu_ms": row["ms_total"],
        "peak_mib": None if row["peak_bytes"] is None else row["peak_bytes"] / 2**20,
    }


def _row(network: Network, kind: str, evaluation: Path) -> dict[str, Any]:
    metrics = json.loads((evaluation / "metrics.json").read_text())
    energy, rates = json.loads((evaluation / "energy.json").read_text()), metrics.get("firing_rates") or {}
    return {
        "name": network.name,
        "data": network.data,
        "family": network.family,
        "neuron": network.neuron,
        "kind": kind,
        "protocol": metrics["protocol"],
        **{key: metrics[key] for key in ("T", "parameters", "AP50", "AP", "seed")},
        "firing_rate": mean(rates.values()) if rates else None,
        "D": energy["D"],
        **{key: energy["total"][key] for key in OF_ENERGY},
    }


def markdown(found: Iterable[dict[str, Any]]) -> str:
    """One table for each dataset."""
    parts, found = [], list(found)
    for data in dict.fromkeys(row["data"] for row in found):
        of_data = [row for row in found if row["data"] == data]
        lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
        lines += [f"| {' | '.join(_cells(row))} |" for row in of_data]
        parts.append(f"{data.capitalize()}, `{of_data[0]['protocol']}`:\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    bounds = (row["movement_mJ"], row["twin_mJ"], row["ann_int8_mJ"])
    return [
        f"`{row['family']}`", row["neuron"], row["kind"], str(row["T"]), str(row["D"]),
        f"{row['parameters'] / 1e6:.2f} M", _share(row["AP50"]), _share(row["AP"]), _share(row["firing_rate"]),
        f"{row['synops'] / 1e6:.0f} M", f"{row['macs'] / 1e6:.0f} M",
        _uj(row["papers_mJ"]), *(" .. ".join(map(_uj, pair)) for pair in bounds),
        f"{row['cpu_ms']:.0f}", MISSING if row["peak_mib"] is None else f"{row['peak_mib']:.0f}",
        MISSING if "train_minutes" not in row else f"{row['train_minutes']:.1f} min",
    ]  # fmt: skip


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}".replace("0.", ".", 1)


def _uj(millijoules: float) -> str:
    """In microjoules, three digits."""
    return f"{float(f'{1e3 * millijoules:.3g}'):g}"
