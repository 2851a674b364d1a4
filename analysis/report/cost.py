"""Firing rates, operations, and energy with its verdicts and what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .markup import Markup, bullets, facts, join, number, table, tag

OPERATIONS = ("synops", "macs", "dense_macs")


def firing(metrics: dict[str, Any]) -> Markup:
    """A bar per layer, in the order of the network."""
    rates, shares = metrics.get("firing_rates"), metrics.get("spike_shares", {})
    if rates is None:
        return (
            tag("p", Markup("Not recorded: add <code>--spikes</code>."), class_="note")
            if "model" in metrics
            else Markup()
        )
    if not rates:
        return tag("p", "This network has no spiking neurons.", class_="note")
    most = max(max(rates.values()), 1e-9)
    bars = join(
        tag("li", tag("span", layer, style="text-align:left") + tag("i", tag("b", "", style=f"width:{rate / most:.1%}"))
            + tag("span", number(rate)))
        for layer, rate in rates.items()
    )  # fmt: skip
    mean = sum(rates.values()) / len(rates)
    silent = [layer for layer, rate in rates.items() if not rate]
    note = (
        f"Share of outputs that are not 0, over all samples, neurons and steps. {len(rates)} layers, mean {mean:.3f}, "
        f"largest {most:.3f}; {len(silent)} never fire."
    )
    signs = ["layer", "+1", "0", "−1"]
    rows = [[layer, *(number(of[key]) for key in ("+1", "0", "-1"))] for layer, of in shares.items()]
    ternary = tag("h3", "Signs") + table(signs, rows, "signs") if rows else Markup()
    return tag("p", note, class_="note") + tag("ul", bars, class_="bars", id="firing") + ternary


def cost(metrics: dict[str, Any], energy: dict[str, Any] | None) -> Markup:
    parts = [_operations(metrics), _energy(energy) if energy else Markup()]
    if not any(parts) and "model" in metrics:
        return tag("p", Markup("Not counted: add <code>--spikes</code> and <code>--energy</code>."), class_="note")
    return join(part for part in parts if part)


def _operations(metrics: dict[str, Any]) -> Markup:
    if not (found := metrics.get("operations")):
        return Markup()
    forms = {"as run": found, "merged": found.get("merged")}
    rows = [[name, *(f"{of[key] / 1e6:,.2f}" for key in OPERATIONS)] for name, of in forms.items() if of]
    header = ["million per image", "additions of spikes", "multiply-accumulates", "multiply-accumulates if dense"]
    return tag("h3", "Operations") + table(header, rows, "operations")


def _energy(energy: dict[str, Any]) -> Markup:
    total, prices = energy["total"], energy["prices"]
    spiking = energy["coding"] != "none"
    kinds = {
        "as in the papers: no memory, neurons, sums, biases": "papers",
        f"moving data by the rule {total['memory']}, int8 weights": "int8",
        f"moving data by the rule {total['memory']}, float32 weights": "fp32",
    }
    own = {"papers": total["papers_mJ"], "int8": total["movement_mJ"], "fp32": total["movement_fp32_mJ"]}
    twin = {"int8": total["twin_mJ"]} if spiking else {}
    ann = {"papers": total["papers_ann_mJ"], "int8": total["ann_int8_mJ"], "fp32": total["ann_fp32_mJ"]}
    rows = [[words, *(millijoule(of.get(kind)) for of in (own, twin, ann))] for words, kind in kinds.items()]
    header = ["mJ per image", "this network", f"{total['twin_bits']}-bit twin", "ANN, one pass"]
    counted = (
        f"{energy['estimate'].capitalize()}. Per image, mean of {energy['samples']} samples, T = {energy['T']}, D = "
        f"{energy['D']}, coding of spikes: {energy['coding']}. Two figures: with reuse of what was read, and without."
    )
    rules = [
        [
            f"{rule}, {precision} weights",
            *(millijoule(prices[rule][precision].get(key)) for key in ("snn", "twin", "ann")),
        ]
        for rule in prices
        for precision in ("int8", "fp32")
    ]
    other = table(["all rules of memory, mJ", "this network", "twin", "ANN"], rules, "energy-rules")
    facts_of = facts(
        [("spikes per synapse", number(total["spikes_per_synapse"])),
         ("rate per step and level", f"{total['rate']:.2%}"),
         ("shares, int8 weights", ", ".join(f"{key.replace('_', ' ')} {value:.1%}" for key, value in
          total["shares"]["int8"].items() if not key.startswith("number")))], "energy-facts",
    )  # fmt: skip
    return join(
        [
            tag("h3", "Energy"), tag("p", counted, class_="note"), table(header, rows, "energy"), facts_of,
            tag("h3", "Verdicts"), bullets(energy["verdicts"], "verdicts"),
            tag("h3", "Not included"), bullets(energy["excluded"], "excluded"),
            tag("h3", "By layer"), _layers(energy["layers"]), tag("h3", "By rule"), other,
        ]
    )  # fmt: skip


def _layers(rows: Sequence[dict[str, Any]]) -> Markup:
    header = ["layer", "kind", "output", "dense MACs", "additions", "spikes per synapse", "rate", "weights, bytes"]
    shown = [
        [row["name"], row["kind"], "×".join(map(str, row["shape"])), f"{row['mac_dense']:,.0f}", f"{row['sop']:,.0f}",
         number(row["rho"]), number(row["rate"]), f"{row['weight_bytes']:,}"]
        for row in rows
        if row.get("mac_dense") and row["form"] != "as run"
    ]  # fmt: skip
    return table(header, shown, "energy-layers", 3)


def millijoule(value: float | Sequence[float] | None) -> str:
    """Three digits; a pair with reuse and without."""
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, (int, float)) else " .. ".join(f"{v:.3g}" for v in value)
