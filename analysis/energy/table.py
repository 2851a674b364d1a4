"""Energy as rows of the console's table, and in brief, as metrics.json has it."""

from __future__ import annotations

from typing import Any

from .constants import MAC


def brief(energy: dict[str, Any]) -> dict[str, Any]:
    """The main figures of `Estimate.result`, energies in millijoule per image, data movement as [with reuse, without]
    at int8 weights."""
    total = energy["total"]
    keys = "papers_mJ", "papers_ann_mJ", "movement_mJ", "twin_mJ", "ann_int8_mJ", "ann_fp32_mJ", "movement_fp32_mJ"
    more = "twin_bits", "spikes_per_synapse", "rate", "synops", "memory"
    return {key: total[key] for key in (*keys, *more)} | {"samples": energy["samples"], "coding": energy["coding"]}


def energy_rows(energy: dict[str, Any]) -> list[tuple[str, str]]:
    """(label, text) of each line."""
    total, sd = energy["total"], energy["sd"]
    spiking = energy["coding"] != "none"
    own, ann = ("SNN ", ", ANN ") if spiking else ("as run ", ", in one pass ")
    papers = f"{own}{mj(total['papers_mJ'])} (sd {mj(sd['papers_mJ'])}){ann}{mj(total['papers_ann_mJ'])}"
    head = "without its head " + mj(total["papers_without_head_mJ"])
    int8 = f"{own}{bounds(total['movement_mJ'])}, "
    int8 += f"{total['twin_bits']}-bit twin {bounds(total['twin_mJ'])}, " if spiking else ""
    int8 += f"ANN {bounds(total['ann_int8_mJ'])}"
    fp32 = f"{own}{bounds(total['movement_fp32_mJ'])}, ANN {bounds(total['ann_fp32_mJ'])}"
    messages = {name: of["snn_graded"] for name, of in energy["prices"][total["memory"]].items() if "snn_graded" in of}
    shares, real = total["shares"]["int8"], total["real_layers"]
    counted = f"T {energy['T']}, D {energy['D']}, {energy['coding']}, {energy['samples']} samples"
    rows = [
        ("energy", f"per image, an estimate from counts: {counted}"),
        ("  as in papers", f"{papers}; {head}; no memory, neurons, sums, biases"),
        (f"  moving data, {total['memory']}", "with .. without reuse of what was read:"),
        ("    int8 weights", int8),
        ("    fp32 weights", fp32),
        *((f"    integers as messages, {name}", f"SNN {bounds(pair)}") for name, pair in messages.items()),
        (
            "  shares, int8",
            f"memory {shares['memory']:.1%}, head {shares['head']:.1%}, neurons {shares['neurons']:.1%}, layers with a "
            f"real input {shares['real_layers']:.1%}, layers above 1 MB {shares['layers_above_1_MB']:.1%}",
        ),
    ]
    if real["macs"] < real["macs_each_step"]:
        once, each = (real[key] * (MAC * 1e-9) for key in ("macs", "macs_each_step"))
        rows.append(("  layers of real input", f"{mj(once)} as often as they run; papers, in each step: {mj(each)}"))
    if spiking:
        deviation = sd["synops"] / total["synops"] if total["synops"] else 0.0
        rows.append(
            (
                "  spikes per synapse",
                f"{total['spikes_per_synapse']:.3f}, rate {total['rate']:.2%}; additions {total['synops'] / 1e6:.2f} "
                f"M, sd {deviation:.1%} of it",
            )
        )
    rows += [("  verdict", line) for line in energy["verdicts"]]
    return rows + [("  excluded", line) for line in energy["excluded"]]


def joule_rows(measured: dict[str, dict[str, float]]) -> list[tuple[str, str]]:
    """Of `analysis.energy.joules.measure`."""
    return [
        (
            f"joules, batch {size}",
            f"{of['joules_per_image']:.3g} J per image, measured: {of['watts']:.0f} W at "
            f"{of['images_per_second']:.1f} images/s",
        )
        for size, of in measured.items()
    ]


def mj(value: float) -> str:
    """Millijoule, with three digits; below one in microjoule."""
    return f"{value:.3g} mJ" if value >= 0.1 else f"{value * 1e3:.3g} uJ"


def bounds(pair: list[float]) -> str:
    low, high = pair
    if high < 0.1:
        return f"{low * 1e3:.3g} .. {high * 1e3:.3g} uJ"
    return f"{low:.3g} .. {high:.3g} mJ"
