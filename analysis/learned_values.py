"""Learned constants of neurons: time constants tau, thresholds (lambda of `qcfs`), and what a user's neuron learns."""

from __future__ import annotations

from torch import Tensor, nn

from models.memory.cell import Cell
from neurons import DynamicNeuron, MultiStepNeuron


def learned_values(model: nn.Module) -> dict[str, dict[str, float]]:
    """{"tau": {layer: value}, "threshold": {layer: value}, ...}, of the layers that learn them, in the order of the
    network; the mean where each channel has its own.

    tau in steps, thresholds as used, which is not below their floor; parameters of other neurons by their own names.
    """
    found: dict[str, dict[str, float]] = {}
    for layer, neuron in model.named_modules():
        if isinstance(neuron, MultiStepNeuron):
            for name, value in _values(neuron).items():
                found.setdefault(name, {})[layer] = float(value.detach().float().mean())
    return found


def _values(neuron: MultiStepNeuron) -> dict[str, Tensor]:
    if isinstance(neuron, Cell):
        return {"tau": 1 / neuron.rate()}
    if not isinstance(neuron, DynamicNeuron):
        return dict(neuron.named_parameters(recurse=False))
    decay, threshold = neuron.decay(), neuron.learned_threshold()
    values = {"tau": None if decay is None else 1 / decay, "threshold": threshold}
    return {name: value for name, value in values.items() if value is not None}
