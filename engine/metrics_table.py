"""Format metrics.json as a table for the console."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.draw import legible
from analysis.energy.table import energy_rows, joule_rows

from .curve_table import curve_rows

SHOWN = ("data.test_split", "eval.protocol")  # in rows of their own


def table(metrics: dict[str, Any], out: Path, energy: dict[str, Any] | None = None) -> str:
    """One row each for model, data, protocol, scores, energy, firing rates and the folder `out`."""

    def number(key: str) -> str:
        return "-" if metrics.get(key) is None else f"{metrics[key]:.3f}"

    def fires(layer: str, rate: float) -> str:
        shares = metrics.get("spike_shares", {}).get(layer, {})
        return ", ".join([f"fires {rate:.3f}", *(f"{value} {share:.3f}" for value, share in shares.items())])

    changes = metrics["request"].get("config_changes", {})
    of_clips = f" of {metrics['clips']} clips" if "clips" in metrics else ""
    if "model" in metrics:
        source = [
            ("model", f"{metrics['model']}, neuron {metrics['neuron']}, T={metrics['T']}"),
            ("parameters", f"{metrics['parameters']:,}"),
        ]
    else:
        source = [("detections", metrics["detections"]), ("data", metrics["data"]["checked"])]
    rows = [
        *source,
        (
            "split",
            f"{metrics['split']}: {metrics['images']} of {metrics['expected_images']} samples{of_clips}, "
            f"{metrics['evaluated_images']} scored with {metrics['boxes']} boxes",
        ),
        *((f"changed: {key}", f"{old} -> {new}") for key, (old, new) in changes.items() if key not in SHOWN),
        ("protocol", metrics["protocol"]),
        ("rule", metrics["rule"]),
        ("AP50", number("AP50")),
        ("AP75", number("AP75")),
        ("AP", number("AP")),
        *((f"  {name}", f"AP50 {v:.3f}") for name, v in (metrics.get("per_class_AP50") or {}).items() if v is not None),
        *curve_rows(metrics),
        *operation_rows(metrics.get("operations", {})),
        *(energy_rows(energy) if energy else ()),
        *joule_rows(metrics.get("joules", {})),
        *((f"  {layer}", fires(layer, rate)) for layer, rate in metrics.get("firing_rates", {}).items()),
        *((f"binary: {what}", f"{value:.2g}") for what, value in metrics.get("binary", {}).items()),
        ("written to", str(out)),
    ]
    width = max(len(key) for key, _ in rows)
    return "\n".join(legible(f"{key:<{width}}  {value}", longest=1000) for key, value in rows)


def operation_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Of `analysis.operations` totals a row of the operations per image, and one of the merged network, if there is
    one."""

    def cost(of: dict[str, float]) -> str:
        synops, macs, dense = (of[key] / 1e6 for key in ("synops", "macs", "dense_macs"))
        share = (synops + macs) / dense
        return f"{synops:.2f} M additions, {macs:.2f} M MACs per image: {share:.3f} of {dense:.2f} M MACs if dense"

    rows = {"operations": found, "operations, merged": found.get("merged")}
    return [(name, cost(counts)) for name, counts in rows.items() if counts]
