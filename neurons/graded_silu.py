"""The graded neuron of the published EMS-YOLO networks: a leaky membrane with output SiLU(H) instead of spikes."""

from __future__ import annotations

from .base import DynamicNeuron
from .multistep.dynamics import Dynamics
from .registry import register_neuron


@register_neuron("graded_silu")
class GradedSiLU(DynamicNeuron):
    """S[t] = SiLU(H[t]),  H[t] = (1 - 1/tau) C[t-1] (1 - stopgrad(S[t-1])) + X[t]

    Its output is real valued, so the layers after it need multiply-accumulates. In the published code (EMS-YOLO,
    `mem_update(act=True)`) the membrane is C = H as written, but every built or loaded network sets `SiLU.inplace`,
    which overwrites the membrane, so that C = SiLU(H): the published weights were trained with that (`inplace=True`
    here). The input is not written into in either form.
    """

    spiking = False

    def __init__(self, tau: float = 4 / 3, inplace: bool = True, backend: str = "auto"):
        super().__init__(Dynamics("silu", tau=tau, carries_output=inplace), backend=backend)
