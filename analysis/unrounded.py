"""A network of integer neurons without their rounding: the smooth function whose gradient theirs stands for."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from models import Detector
from neurons import DynamicNeuron, StepNeuron
from neurons.multistep.formulas import charge, constants
from neurons.state import State


class Unrounded(StepNeuron):
    """S[t] = clip(H[t] / v_threshold, 0, D) in place of its rounded value, the rest as in the `ilif` neuron `of`."""

    spiking = False

    def __init__(self, of: DynamicNeuron):
        super().__init__()
        self.of = of

    def step(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        assert isinstance(state, Tensor)
        d = self.of.dynamics
        numbers = constants(d, self.of.decay(), self.of.learned_threshold())
        h = charge(numbers, state, x)
        s = (h / numbers.threshold).clamp(0, d.levels)
        return s, h - (s.detach() if d.detach_reset else s) * numbers.threshold


def unrounded(model: Detector) -> Detector | None:
    """A copy of `model` with the same weights, whose integer neurons are `Unrounded`; None if it has none."""
    model = copy.deepcopy(model)
    found = [
        (name, m) for name, m in model.named_modules() if isinstance(m, DynamicNeuron) and m.dynamics.emit == "integer"
    ]
    for name, neuron in found:
        parent, _, own = name.rpartition(".")
        holder: nn.Module = model.get_submodule(parent)
        setattr(holder, own, Unrounded(neuron))
    return model if found else None
