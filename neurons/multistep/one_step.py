"""One step of integrate-and-fire neurons on a CPU, in place: a converted network is simulated by thousands of them.

The formulas of a binary or ternary neuron with the threshold 1, a soft reset and no leak, bit for bit, in as many
passes over memory as the arithmetic takes: three, ternary six. The general path makes more, and allocates a membrane.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .dynamics import Dynamics
from .ops import runs_now


def applies(d: Dynamics) -> bool:
    """Whether `Membrane` computes these dynamics."""
    spiking = d.emit in ("binary", "ternary")
    return spiking and d.v_threshold == 1 and d.v_reset is None and d.keep == 1 and not d.decay_input


class Membrane:
    """A membrane v [...] that steps x_seq [1, ...] overwrite, in inference mode: no gradient needs its old values.

    What does not change from step to step is read here once: each operation on a small tensor takes a microsecond.
    """

    def __init__(self, d: Dynamics, v: Tensor):
        self.v = v[None]
        self.shape, self.stride, self.dtype = self.v.shape, self.v.stride(), v.dtype
        self.usable = v.is_cpu and v.is_inference()
        self.fires = torch.ge if d.inclusive else torch.gt
        self.negative = d.negative if d.emit == "ternary" else None
        # 0-d, in place of Python numbers, which ATen would turn into tensors at each call.
        self.upper, self.lower = v.new_tensor(1.0), v.new_tensor(-d.negative)

    def fits(self, x_seq: Tensor) -> bool:
        """Whether `advance` can make this step."""
        return (
            self.usable
            and x_seq.shape == self.shape
            and x_seq.stride() == self.stride
            and x_seq.dtype == self.dtype
            and x_seq.is_cpu
            and torch.is_inference_mode_enabled()
            and runs_now(x_seq)
        )

    def advance(self, x_seq: Tensor) -> Tensor:
        """S [1, ...] of the step x_seq [1, ...]."""
        v = self.v.add_(x_seq)
        s = self.fires(v, self.upper, out=torch.empty_like(v))
        v.sub_(s)
        if self.negative is not None:
            n = torch.le(v, self.lower, out=torch.empty_like(v))  # v is still H where no positive spike was
            v.add_(n, alpha=self.negative)
            s.sub_(n)
        return s
