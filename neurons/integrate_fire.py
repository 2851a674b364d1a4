"""Integrate-and-fire without a leak: ReLU networks are converted to it."""

from __future__ import annotations

from .base import DynamicNeuron
from .multistep.dynamics import Dynamics
from .registry import register_neuron
from .surrogate import SurrogateSpec, parse_surrogate


@register_neuron("if")
class IF(DynamicNeuron):
    """H[t] = V[t-1] + X[t],  S[t] = [H[t] >= v_threshold],  V[t] = H[t] - v_threshold S[t],  V[-1] = v_init

    With the soft reset v_threshold sum(S) / T approaches clip(X, 0, v_threshold) for a constant input X; v_init =
    v_threshold / 2 makes it equal QCFS with L = T levels (Bu et al., ICLR 2022). Rueckauer et al., 2017; the firing
    condition includes equality, as in the worked example of the Spiking YOLOv3 paper.

    Args: `v_init`, the potential before the first step (None: v_reset, or 0 with a soft reset); the others as in `LIF`.
    """

    def __init__(
        self, v_threshold: float = 1.0, v_reset: float | None = None, v_init: float | None = None,
        surrogate: SurrogateSpec = "sigmoid", detach_reset: bool = False, fires_at_threshold: bool = True,
        learn_threshold: bool = False, backend: str = "auto",
    ):  # fmt: skip
        name, alpha, outside = parse_surrogate(surrogate)
        dynamics = Dynamics(
            "binary", v_threshold=v_threshold, v_reset=v_reset, v_init=(v_reset or 0.0) if v_init is None else v_init,
            surrogate=name, alpha=alpha, outside=outside, detach_reset=detach_reset, inclusive=fires_at_threshold,
        )  # fmt: skip
        super().__init__(dynamics, learn_threshold, backend)
