"""Description in an exported file: classes, preprocessing, T, D, source and commit, as plain values."""

from __future__ import annotations

from typing import Any

from models import Detector
from models.contracts import Selects
from neurons.base import MultiStepNeuron

from ..runs.open import Run
from ..runs.provenance import provenance


def describe(run: Run, model: Detector, weights: str) -> dict[str, Any]:
    """Plain values: of `run`, and of `model`, which is exported.

    `D` is the largest output of its neurons: 1 of binary spikes; None of an ANN and where it is not known.
    """
    source, neurons = provenance([]), model.spiking_layers().values()
    return {
        "model": run.content["model_kwargs"]["name"],
        "classes": run.class_names,
        "input": run.content.get("input"),  # the preprocessing, see docs/export.md
        "T": model.T,
        "D": largest_output([neuron for neuron in neurons if isinstance(neuron, MultiStepNeuron)]),
        "neuron": run.content["model_kwargs"].get("neuron"),
        "selection": dict(model.head.selection) if isinstance(model.head, Selects) else None,
        "weights": weights,
        "epochs": run.content.get("epoch"),
        "checkpoint": run.checkpoint.name,
        "commit": source["commit"],
        "dirty": source["dirty"],
        "versions": source["versions"],
        "date": source["date"],
    }


def largest_output(neurons: list[MultiStepNeuron]) -> int | None:
    ranges = [neuron.emits for neuron in neurons]
    return max((high for found in ranges if found is not None for high in found), default=None)
