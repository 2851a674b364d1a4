"""Integer leaky integrate-and-fire: trained with integer outputs 0..D, deployed as D binary steps."""

from __future__ import annotations

from .base import DynamicNeuron
from .multistep.dynamics import Dynamics
from .registry import register_neuron


@register_neuron("ilif")
class ILIF(DynamicNeuron):
    """H[t] = (1 - 1/tau) V[t-1] + X[t],  S[t] = round(clip(H[t], 0, D)),  V[t] = H[t] - stopgrad(S[t])

    with dS/dH = 1 where -margin <= H <= D + margin, ends included, `outside` elsewhere, and halves rounded to the even
    integer. margin = outside = 0 is the published neuron. SpikeYOLO (Luo et al., ECCV
    2024), class `mem_update` with `MultiSpike4`: leak 0.25, D = 4, unit threshold. The published Gen1 code is another
    neuron, H = (V + X) / 2: `tau=2, decay_input=True`. With another threshold, S = round(clip(H / v_threshold, 0, D)),
    V = H - v_threshold S, as in SpikingJelly's `ILIFNode`, whose default keeps the gradient of the reset; the window is
    that of H / v_threshold, and dS/dH is divided by v_threshold.

    Args: `D`, the largest output, >= 1; `outside`, the derivative outside the window, 0 to 1; `margin`, by which the
    window is wider at each end, >= 0; the others as in `LIF`.
    """

    def __init__(
        self, D: int = 4, tau: float = 4 / 3, v_threshold: float = 1.0, decay_input: bool = False,
        detach_reset: bool = True, learn_threshold: bool = False, outside: float = 0.0, margin: float = 0.0,
        learn_tau: bool = False, backend: str = "auto",
    ):  # fmt: skip
        dynamics = Dynamics(
            "integer", tau=tau, decay_input=decay_input, v_threshold=v_threshold, detach_reset=detach_reset, levels=D,
            outside=outside, margin=margin,
        )  # fmt: skip
        super().__init__(dynamics, learn_threshold, backend, learn_tau=learn_tau)
