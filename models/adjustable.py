"""Values of a built detector that may change: T, and what its neurons declare adjustable, as margin, alpha or D."""

from __future__ import annotations

from collections.abc import Mapping

from neurons.base import DynamicNeuron
from registry import UserError

from .detector import Detector

Number = int | float


def adjustable(model: Detector) -> dict[str, set[Number]]:
    """{name: values} of what the neurons of `model` have that may change during training."""
    found: dict[str, set[Number]] = {}
    for module in model.modules():
        if isinstance(module, DynamicNeuron):
            for name, value in module.adjustable.items():
                found.setdefault(name, set()).add(value)
    return found


def set_values(model: Detector, values: Mapping[str, Number]) -> None:
    """Set T and what is `adjustable` in every neuron that has it."""
    if "T" in values:
        if values["T"] < 1:
            raise UserError(f"T must be at least 1, got {values['T']}")
        model.T = int(values["T"])
    for module in model.modules():
        if isinstance(module, DynamicNeuron):
            module.adjust(**{name: value for name, value in values.items() if name in module.adjustable})
