"""Describe a converted detector for the console: neurons and scales of each layer, and the time of a step."""

from __future__ import annotations

import time

from torch import Tensor

from analysis.draw import legible
from models.deploy import ConvertedDetector, ScaleTable, simulate

from .runs.console_text import duration

FEW, MOST = 64, 2048  # steps that the time is given for
TIMED = 8


def conversion_table(snn: ConvertedDetector, scales: ScaleTable, x: Tensor) -> str:
    """One row per layer: neuron, neurons of an image, lam (smallest, median, largest), share of the measured values
    above it; then the sum, and the time that one image takes here.

    x: a batch of a dataset.
    """
    one = x[:1] if x.dim() == 4 else x[:, :1]
    last = min(TIMED, x.shape[0]) if x.dim() == 5 else TIMED
    simulation = simulate(snn, one, sorted({1, last}))
    next(simulation)
    began = time.perf_counter()
    for _ in simulation:
        pass
    seconds = (time.perf_counter() - began) / max(last - 1, 1)
    neurons = simulation.spikes.neurons()

    head = ("layer", "neuron", "neurons", "lam: smallest", "median", "largest", "clipped")
    rows: list[tuple[str, ...]] = [head]
    for name, neuron in snn.spiking_layers().items():
        lam = scales[name] if name in scales else None
        lams = ("", "", "") if lam is None else tuple(f"{v:.4g}" for v in (lam.min(), lam.median(), lam.max()))
        clipped = f"{100 * scales.clipped[name]:.3f} %" if name in scales.clipped else "-"
        rows.append((legible(name, 200), type(neuron).__name__, f"{neurons[name]:,}", *lams, clipped))
    rows.append((f"{len(rows) - 1} layers", "", f"{sum(neurons.values()):,}", "", "", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    text = "\n".join(
        "  ".join([*map(str.ljust, row[:2], widths[:2]), *map(str.rjust, row[2:], widths[2:])]).rstrip() for row in rows
    )
    if x.dim() == 4:
        few, most = duration(seconds * FEW), duration(seconds * MOST)
        text += f"\none image takes about {few} for {FEW} steps here, {most} for {MOST}"
    return text
