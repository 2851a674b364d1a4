"""What every neuron here is: a SpikingJelly `MemoryModule` that runs all T steps in one call and forgets them."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import base
from torch import Tensor


class MultiStepNeuron(base.MemoryModule):
    """x_seq [T, ...] -> y_seq [T, ...], of the same shape, dtype and memory layout.

    Every call starts from the resting potential and stores nothing, so two calls with one input give one output and
    `reset_net`, EMA copies and pickling never meet a live graph. The membrane is float32 whatever autocast does.
    Subclasses implement `steps`.
    """

    spiking: bool = True  # False for the activations of ANN twins

    def __init__(self) -> None:
        super().__init__()
        self.step_mode = "m"

    def supported_step_mode(self) -> tuple[str, ...]:
        return ("m",)

    def steps(self, x_seq: Tensor) -> Tensor:
        """The dynamics in float32, [T, ...] -> [T, ...]. Must not write into `x_seq`."""
        raise NotImplementedError

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:  # type: ignore[override]
        with torch.autocast(x_seq.device.type, enabled=False):
            return self.steps(x_seq.float()).to(x_seq.dtype)
