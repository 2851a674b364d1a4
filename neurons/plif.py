"""Parametric leaky integrate-and-fire: the membrane time constant is learned."""

from __future__ import annotations

from .base import DynamicNeuron
from .multistep.dynamics import Dynamics
from .registry import register_neuron
from .surrogate import SurrogateSpec, parse_surrogate


@register_neuron("plif")
class PLIF(DynamicNeuron):
    """H[t] = (1 - sigmoid(w)) V[t-1] + X[t],  S[t] = [H[t] >= v_threshold],  V[t] = H[t] - v_threshold S[t]

    with one learned scalar w per layer, 1/tau = sigmoid(w). Parametric LIF: Fang et al., ICCV 2021. The defaults are
    EAS-SNN's (Wang et al., ECCV 2024): undamped input, soft reset with its gradient, ATan surrogate of alpha 2,
    tau 2 at the start. Equals SpikingJelly's `ParametricLIFNode(init_tau=2.0, decay_input=False, v_reset=None,
    surrogate_function=ATan(2.0))` up to rounding, and keeps no state between calls.

    Args: `init_tau`, the time constant at the start, > 1; the others as in `LIF`.
    """

    def __init__(
        self, init_tau: float = 2.0, v_threshold: float = 1.0, v_reset: float | None = None, decay_input: bool = False,
        surrogate: SurrogateSpec = "atan", detach_reset: bool = False, fires_at_threshold: bool = True,
        learn_threshold: bool = False, backend: str = "auto",
    ):  # fmt: skip
        name, alpha, outside = parse_surrogate(surrogate)
        dynamics = Dynamics(
            "binary", tau=init_tau, decay_input=decay_input, v_threshold=v_threshold, v_reset=v_reset,
            v_init=v_reset or 0.0,
            surrogate=name, alpha=alpha, outside=outside, detach_reset=detach_reset, inclusive=fires_at_threshold,
        )  # fmt: skip
        super().__init__(dynamics, learn_threshold, backend, learn_tau=True)
