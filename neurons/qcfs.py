"""Quantised clip-floor-shift: the activation of ANNs that convert to integrate-and-fire neurons without a loss."""

from __future__ import annotations

from .base import DynamicNeuron
from .multistep.dynamics import Dynamics
from .registry import register_neuron


@register_neuron("qcfs")
class QCFS(DynamicNeuron):
    """Y = lambda / L clip(floor(X L / lambda + 1/2), 0, L) of every step

    with dY/dX = 1 and dY/dlambda = (Y - X) / lambda where -lambda / 2L <= X < lambda - lambda / 2L; both are 0 below,
    0 and 1 above. Bu et al., ICLR 2022. An `if` neuron with v_threshold = lambda, v_init = lambda / 2 and a constant
    input fires at this rate over T = L steps. Differs from the reference code, which clips after the floor and so
    depends on the gradient of torch.clamp at its bounds (1 up to torch 2.13, 0 in 2.15, where L = 1 does not train).

    Args:
        L: number of levels above 0.
        v_threshold: lambda at the start (reference code: 4).
        learn_threshold: train lambda (parameter `threshold`, one per layer), kept positive.
        per_channel: one lambda per channel, as an option: the reference code has one per layer.
        backend: auto, cupy, compile or torch.
    """

    spiking = False

    def __init__(
        self, L: int = 32, v_threshold: float = 4.0, learn_threshold: bool = True, per_channel: bool = False,
        backend: str = "auto",
    ):  # fmt: skip
        super().__init__(Dynamics("qcfs", v_threshold=v_threshold, levels=L), learn_threshold, backend, per_channel)
