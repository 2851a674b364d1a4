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

    x: a batch of a dataset, as large as in an evaluation.
    """
    steps = min(TIMED, x.shape[0]) if x.dim() == 5 else TIMED
    for _ in range(2):  # the first run compiles the neurons
        simulation, began = simulate(snn, x, [steps]), time.perf_counter()
        list(simulation)
    images = x.shape[-4]
    seconds = (time.perf_counter() - began) / steps / images
    neurons = {name: count // images for name, count in simulation.spikes.neurons().items()}

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
        few, most = (duration(s) if (s := seconds * n) >= 10 else f"{s:.2g} s" for n in (FEW, MOST))
        text += f"\none image takes about {few} for {FEW} steps here, {most} for {MOST}"
    return text
