"""Ternary neurons: spikes of both signs, at thresholds +v_threshold and -v_threshold."""

from __future__ import annotations

import math

from .base import DynamicNeuron
from .multistep.dynamics import Dynamics
from .registry import register_neuron
from .surrogate import SurrogateSpec, parse_surrogate


@register_neuron("ternary_lif")
class TernaryLIF(DynamicNeuron):
    """S[t] = [H[t] >= v_threshold] - [-H[t] >= v_threshold],  H[t] as in `LIF`, v_reset = 0: V[t] = H[t] (1 - |S[t]|)

    The surrogate acts at both thresholds. Defaults and equations are those of SpikingJelly 2's `TernaryLIFNode`, which
    this equals up to rounding. `tau=4/3, decay_input=False` is the forward dynamics of Guo et al., AAAI 2024 ("Ternary
    Spike"), without their learned amplitude.

    Args: `v_reset`: potential after a spike of either sign, None: V = H - v_threshold S; the others as in `LIF`.
    """

    def __init__(
        self, tau: float = 2.0, v_threshold: float = 1.0, v_reset: float | None = 0.0, decay_input: bool = True,
        surrogate: SurrogateSpec = "sigmoid", detach_reset: bool = False, learn_threshold: bool = False,
        backend: str = "auto",
    ):  # fmt: skip
        name, alpha, outside = parse_surrogate(surrogate)
        dynamics = Dynamics(
            "ternary", tau=tau, decay_input=decay_input, v_threshold=v_threshold, v_reset=v_reset,
            v_init=v_reset or 0.0, surrogate=name, alpha=alpha, outside=outside, detach_reset=detach_reset,
        )  # fmt: skip
        super().__init__(dynamics, learn_threshold, backend)


@register_neuron("ternary_if")
class TernaryIF(TernaryLIF):
    """The same without a leak, H[t] = V[t-1] + X[t]: SpikingJelly 2's `TernaryIFNode`."""

    def __init__(
        self, v_threshold: float = 1.0, v_reset: float | None = 0.0, surrogate: SurrogateSpec = "sigmoid",
        detach_reset: bool = False, learn_threshold: bool = False, backend: str = "auto",
    ):  # fmt: skip
        super().__init__(math.inf, v_threshold, v_reset, False, surrogate, detach_reset, learn_threshold, backend)
