"""Signed integrate-and-fire with imbalanced thresholds: leaky ReLU networks are converted to it."""

from __future__ import annotations

from registry import UserError

from .base import DynamicNeuron
from .multistep.dynamics import Dynamics
from .registry import register_neuron
from .surrogate import SurrogateSpec, parse_surrogate


@register_neuron("signed_if")
class SignedIF(DynamicNeuron):
    """S[t] = 1 if H[t] >= th, -1 if H[t] <= -th / negative_slope, else 0;  H[t] = V[t-1] + X[t]

    Every spike subtracts the threshold that was crossed: V = H - th, or V = H + th / negative_slope. For a constant X
    th sum(S) / T approaches clip(X, 0, th) where X >= 0 and clip(negative_slope X, -th, 0) below: a leaky ReLU.
    Spiking-YOLO (Kim et al., AAAI 2020), "imbalanced threshold"; 0.1 is the slope of the Darknet networks it converts
    (the paper's text has 0.01).

    Args: `negative_slope`: slope of the leaky ReLU it replaces, > 0; `v_init`: the potential before the first step;
    the others as in `LIF`.
    """

    def __init__(
        self, negative_slope: float = 0.1, v_threshold: float = 1.0, v_init: float = 0.0,
        surrogate: SurrogateSpec = "sigmoid", detach_reset: bool = False, learn_threshold: bool = False,
        backend: str = "auto",
    ):  # fmt: skip
        if not 0 < negative_slope <= 1:
            raise UserError(f"negative_slope must be above 0 and at most 1, got {negative_slope}")
        name, alpha, outside = parse_surrogate(surrogate)
        dynamics = Dynamics(
            "ternary", v_threshold=v_threshold, v_init=v_init,
            surrogate=name, alpha=alpha, outside=outside, detach_reset=detach_reset,
            negative=1 / negative_slope,
        )  # fmt: skip
        super().__init__(dynamics, learn_threshold, backend)
