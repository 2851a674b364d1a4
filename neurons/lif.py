"""Leaky integrate-and-fire."""

from __future__ import annotations

from .base import DynamicNeuron
from .multistep.dynamics import Dynamics
from .registry import register_neuron
from .surrogate import SurrogateSpec, parse_surrogate


@register_neuron("lif")
class LIF(DynamicNeuron):
    """H[t] = (1 - 1/tau) V[t-1] + X[t],  S[t] = [H[t] > v_threshold],  V[t] = H[t] (1 - S[t])

    The defaults are EMS-YOLO's (Su et al., ICCV 2023, class `mem_update`): leak 0.25 (tau = 4/3), threshold 0.5,
    rectangular surrogate of width 1, hard reset without a gradient, and firing strictly above the threshold.
    With `decay_input=True` the input is scaled by 1/tau as well, H = V + (X - (V - v_reset)) / tau: SpikingJelly's
    default.
    Differs from `spikingjelly.neuron.LIFNode`: no state between calls, and a potential equal to the threshold does not
    fire, unless `fires_at_threshold`.

    Args:
        tau: membrane time constant in steps, > 1.
        v_threshold: firing threshold.
        v_reset: potential after a spike; None: soft reset, V = H - v_threshold S.
        decay_input: whether the input is divided by tau as well.
        surrogate: name, or mapping with `name`, `alpha` and `outside` (see `neurons.surrogate`).
        detach_reset: no gradient through the spike in the reset.
        fires_at_threshold: fire where H = v_threshold.
        learn_threshold: make the threshold a parameter.
        learn_tau: make tau a parameter `w`, 1/tau = sigmoid(w), as in `PLIF`.
        backend: auto, cupy, compile or torch.
    """

    def __init__(
        self, tau: float = 4 / 3, v_threshold: float = 0.5, v_reset: float | None = 0.0, decay_input: bool = False,
        surrogate: SurrogateSpec = "rectangle", detach_reset: bool = True, fires_at_threshold: bool = False,
        learn_threshold: bool = False, learn_tau: bool = False, backend: str = "auto",
    ):  # fmt: skip
        name, alpha, outside = parse_surrogate(surrogate)
        dynamics = Dynamics(
            "binary", tau=tau, decay_input=decay_input, v_threshold=v_threshold, v_reset=v_reset, v_init=v_reset or 0.0,
            surrogate=name, alpha=alpha, outside=outside, detach_reset=detach_reset, inclusive=fires_at_threshold,
        )  # fmt: skip
        super().__init__(dynamics, learn_threshold, backend, learn_tau=learn_tau)
