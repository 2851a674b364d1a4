"""Where a neuron responds: its membrane H before the reset, and the window of H in which it passes a gradient on."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .activation import ReLU
from .base import DynamicNeuron, without_autocast
from .multistep.formulas import charge, compute_dtype, constants, step

SHARE = 0.1  # of the maximum of a surrogate derivative: where it is less, H lies outside the window
# Distance from the threshold at which the derivative is that share, times alpha; of rectangle, at which it ends.
REACH = {
    "rectangle": 0.5,
    "triangle": 1 - SHARE,
    "atan": 2 / math.pi * math.sqrt(1 / SHARE - 1),
    "sigmoid": 2 * math.atanh(math.sqrt(1 - SHARE)),
}


class Window(NamedTuple):
    """The values of H, numbers or 0-d tensors, between which the gradient passes. Of a neuron that is `symmetric`
    (ternary) they are those of |H|, as both signs have one."""

    lower: float | Tensor
    upper: float | Tensor
    symmetric: bool = False


def window(neuron: nn.Module) -> Window | None:
    """The window of a neuron; None where it passes everything on (SiLU), or is not one of the `Dynamics`.

    binary, ternary     where the surrogate is at least a tenth of its maximum, about v_threshold (rectangle: where it
                        is not 0). `outside` of a surrogate does not change the window
    ilif                -margin .. D + margin, times v_threshold
    qcfs, sth, ReLU     between their clipping
    """
    if isinstance(neuron, ReLU):
        return Window(0.0, math.inf)
    if not isinstance(neuron, DynamicNeuron):
        return None
    d, th = neuron.dynamics, threshold(neuron)
    if d.emit in ("binary", "ternary"):
        reach = REACH[d.surrogate] / d.alpha
        return Window(th - reach, th + reach, symmetric=d.emit == "ternary")
    if d.emit == "integer":
        return Window(-d.margin * th, (d.levels + d.margin) * th)
    if d.emit == "qcfs":
        return Window(-th / (2 * d.levels), th - th / (2 * d.levels))
    return Window(-th / d.slope, th) if d.emit == "sth" else None


def threshold(neuron: nn.Module) -> float | Tensor:
    """v_threshold of one of the `Dynamics`, 0-d where it is learned, the mean of those per channel; 1 of others."""
    if not isinstance(neuron, DynamicNeuron):
        return 1.0
    learned = neuron.learned_threshold()
    return neuron.dynamics.v_threshold if learned is None else learned.detach().mean()


@torch.no_grad()
def membrane(neuron: nn.Module, x_seq: Tensor) -> Tensor:
    """H [T, ...] of all steps of an input [T, ...], from the initial state, float32 (float64 where the input is). Of
    neurons without a membrane, and those that are not one of the `Dynamics`, the input itself."""
    if not isinstance(neuron, DynamicNeuron) or neuron.dynamics.memoryless:
        return x_seq
    with without_autocast(x_seq):
        x, d = x_seq.to(compute_dtype(x_seq.dtype)), neuron.dynamics
        numbers = constants(d, neuron.decay(), neuron.learned_threshold())
        v = torch.full_like(x[0], d.v_init) if d.v_init else None
        found = []
        for x_t in x:
            found.append(charge(numbers, v, x_t))
            v = step(d, numbers, found[-1])[1]
        return torch.stack(found)
