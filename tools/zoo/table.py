"""The zoo's table: a row for each network whose steps have ended, as plain values and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from statistics import mean
from typing import Any

from .networks import CONVERTED, Network
from .steps import SCORED, SIMULATED, TIMED, Place

MISSING = "-"
HEAD = (
    "network", "neuron", "kind", "T", "params", "AP50", "AP", "rate", "additions", "MACs", "papers", "data movement",
    "twin", "int8", "CPU ms", "MiB", "trained",
)  # fmt: skip


def rows(network: Network, place: Place) -> list[dict[str, Any]]:
    """Of an evaluated network one row, of one that was converted two; none while a step of it is missing."""
    run = place.out / network.name
    record = place.out / f"{network.name}.json"
    ended = json.loads(record.read_text()) if record.is_file() else {}
    if "time" not in ended:
        return []
    timed = json.loads((run / TIMED).read_text())["rows"][0]
    row = _row(network, network.kind, run / SCORED) | {
        "cpu_ms": timed["ms_total"],
        "peak_mib": None if timed["peak_bytes"] is None else timed["peak_bytes"] / 2**20,
        "train_minutes": ended["train"]["seconds"] / 60,
        "commits": sorted({step["commit"] for step in ended.values() if step["commit"]}),
    }
    if network.convert is None:
        return [row]
    return [row, _row(network, CONVERTED, run / SIMULATED) | {"commits": row["commits"]}]


def _row(network: Network, kind: str, evaluation: Any) -> dict[str, Any]:
    metrics = json.loads((evaluation / "metrics.json").read_text())
    operations, rates = metrics.get("operations") or {}, metrics.get("firing_rates") or {}
    return {
        "name": network.name,
        "data": network.data,
        "family": network.family,
        "neuron": network.neuron,
        "kind": kind,
        "protocol": metrics["protocol"],
        **{key: metrics[key] for key in ("T", "parameters", "AP50", "AP", "seed")},
        "firing_rate": mean(rates.values()) if rates else None,
        "synops": operations.get("synops"),
        "macs": operations.get("macs"),
        "energy": metrics.get("energy") or {},
    }


def markdown(found: Iterable[dict[str, Any]]) -> str:
    """One table for each data set."""
    parts, found = [], list(found)
    for data in dict.fromkeys(row["data"] for row in found):
        of_data = [row for row in found if row["data"] == data]
        lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
        lines += [f"| {' | '.join(_cells(row))} |" for row in of_data]
        parts.append(f"{data.capitalize()}, `{of_data[0]['protocol']}`:\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    energy = row["energy"]
    return [
        f"`{row['family']}`", row["neuron"], row["kind"], str(row["T"]), f"{row['parameters'] / 1e6:.2f} M",
        _share(row["AP50"]), _share(row["AP"]), _share(row["firing_rate"]),
        *(MISSING if row[key] is None else f"{row[key] / 1e6:.0f} M" for key in ("synops", "macs")),
        _uj(energy.get("papers_mJ")), *(_bounds(energy.get(key)) for key in ("movement_mJ", "twin_mJ", "ann_int8_mJ")),
        _number(row.get("cpu_ms")), _number(row.get("peak_mib")), _minutes(row.get("train_minutes")),
    ]  # fmt: skip


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}".replace("0.", ".", 1)


def _uj(millijoules: float | None) -> str:
    """In microjoules, three digits."""
    return MISSING if millijoules is None else f"{float(f'{1e3 * millijoules:.3g}'):g}"


def _bounds(millijoules: list[float] | None) -> str:
    return MISSING if millijoules is None else " .. ".join(map(_uj, millijoules))


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0f}"


def _minutes(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f} min"
