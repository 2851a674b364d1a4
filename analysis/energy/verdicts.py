"""Verdicts: whether a spiking network is likely to need less energy than one without spikes, by published criteria."""

from __future__ import annotations

from typing import Any

from .rows import LAYERS, Row

DAVIDSON = 1.72  # spikes per synapse and inference: Davidson & Furber, Front. Neurosci. 15:651141, 2021
DAMPFHOFFER = 0.15, 1.38  # strict, optimistic: Dampfhoffer et al., IEEE TETCI 7(3):731-741, 2023
YAN = 0.064  # spikes per synapse and step, T from 5 to 10: Yan et al., arXiv 2409.08290 version 2
YAN_5 = 0.057  # the same at T = 5: version 4


def verdicts(rows: list[Row], total: dict[str, Any], T: int, D: int) -> list[str]:
    """Sentences about the whole network. rows: with `rho` and `rate`; total: of `Estimate.result`."""
    adding = [r for r in rows if r["kind"] in LAYERS and r["form"] != "as run" and r["input"] == "spikes"]
    if not adding:
        return ["no layer adds spikes: this is a network without spikes, whose price is that of an ANN"]
    rho, rate, n = total["spikes_per_synapse"], total["rate"], len(adding)
    above = sum(row["rho"] >= DAVIDSON for row in adding)
    strict, optimistic = DAMPFHOFFER
    steps, limit = T * D, yan_limit(T * D)
    fast = sum(row["rate"] >= limit for row in adding)
    place = "below" if rho < strict else "above" if rho >= optimistic else "between"
    lines = [
        f"Davidson & Furber 2021, plausible below {DAVIDSON} spikes per synapse: {_yes(rho < DAVIDSON)}, {rho:.3f}"
        f"; {above} of {n} layers are above",
        f"Dampfhoffer et al. 2023, break-even from {strict} (strict) to {optimistic} (optimistic): {place}, {rho:.3f}",
        f"Yan et al. 2024, plausible below a rate of {limit:.1%}: {_yes(rate < limit)}, {rate:.2%} per step"
        f"{' and level' if D > 1 else ''}; {fast} of {n} layers are above"
        + ("" if 5 <= steps <= 10 else f" (their limit is for 5 to 10 steps, here T x D = {steps})"),
        f"Bit budget, Shen et al. 2024, at equal AP: {steps} bit{'s' * (steps > 1)} of spikes per activation against "
        f"{total['twin_bits']} of the twin: {_yes(steps <= total['twin_bits'])}; against 8 of an int8 ANN: "
        f"{_yes(steps <= 8)}",
    ]
    bits = total["twin_bits"]
    for name, key in ((f"its {bits}-bit twin", "twin_mJ"), ("an int8 ANN", "ann_int8_mJ")):
        lines.append(
            f"With data movement ({total['memory']}, int8 weights) {compared(total['movement_mJ'], total[key])} {name}"
        )
    return lines


def yan_limit(steps: int) -> float:
    return YAN_5 if steps <= 5 else YAN


def compared(own: list[float], rival: list[float]) -> str:
    """Of two pairs [with reuse, without] in millijoule, in words."""
    factors = [a / b for a, b in zip(own, rival, strict=True)]
    both = f"{factors[0]:.2f} times (with reuse) and {factors[1]:.2f} times (without) the energy of"
    if max(factors) < 1:
        return f"less: {both}"
    return f"more: {both}" if min(factors) >= 1 else f"undecided: {both}"


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
