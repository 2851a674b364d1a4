"""Leaky integrate-and-fire in the form of EMS-YOLO: undamped input, hard reset, rectangular surrogate."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .base import MultiStepNeuron
from .registry import register_neuron


class _LIFSteps(torch.autograd.Function):
    """All T steps of the recurrence; backward keeps two bools per element and step instead of float tensors."""

    @staticmethod
    def forward(ctx, x_seq: Tensor, leak: float, v_threshold: float, width: float) -> Tensor:
        s_seq = torch.empty_like(x_seq)
        inside = torch.empty_like(x_seq, dtype=torch.bool)
        h = x_seq[0].clone()
        distance = torch.empty_like(h)
        for t in range(x_seq.shape[0]):
            if t > 0:
                torch.add(x_seq[t], h, alpha=leak, out=h)
            torch.gt(h, v_threshold, out=s_seq[t])
            torch.sub(h, v_threshold, out=distance).abs_()
            torch.lt(distance, width / 2, out=inside[t])
            h.addcmul_(h, s_seq[t], value=-1)  # h (1 - s): exact, and much faster than masked_fill_ on a CPU
        ctx.save_for_backward(s_seq.bool(), inside)
        ctx.leak, ctx.width = leak, width
        return s_seq

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_s_seq: Tensor):
        fired, inside = ctx.saved_tensors
        # dL/dH[t] = dL/dS[t] * window / width + dL/dH[t+1] * leak * (1 - S[t]); dL/dx[t] = dL/dH[t]
        grad_x_seq = torch.mul(grad_s_seq, inside)
        if ctx.width != 1.0:
            grad_x_seq.div_(ctx.width)
        carried = torch.empty_like(grad_x_seq[0])
        for t in range(grad_x_seq.shape[0] - 2, -1, -1):
            torch.mul(grad_x_seq[t + 1], ~fired[t], out=carried)
            grad_x_seq[t].add_(carried, alpha=ctx.leak)
        return grad_x_seq, None, None, None


@register_neuron("lif")
class LIF(MultiStepNeuron):
    """H[t] = (1 - 1/tau) H[t-1] (1 - S[t-1]) + X[t],  S[t] = 1 if H[t] > v_threshold else 0   (H[-1] = 0)

    with dS/dH = 1/width where |H - v_threshold| < width/2 and 0 elsewhere, and no gradient through the reset factor.
    Source: EMS-YOLO (Su et al., ICCV 2023), class `mem_update`: leak 0.25 (tau = 4/3), threshold 0.5, width 1.
    Differs from `spikingjelly.neuron.LIFNode(tau=4/3, decay_input=False, v_threshold=0.5, detach_reset=True,
    surrogate_function=Rect(1.0))` in firing strictly above the threshold, and in keeping no state between calls.

    Args:
        tau: membrane time constant in steps, > 1.
        v_threshold: firing threshold.
        surrogate_width: width of the rectangular surrogate, height 1/width.
    """

    def __init__(self, tau: float = 4 / 3, v_threshold: float = 0.5, surrogate_width: float = 1.0):
        super().__init__()
        if not tau > 1:
            raise ValueError(f"tau must be above 1 (the leak factor is 1 - 1/tau), got {tau}")
        if not surrogate_width > 0:
            raise ValueError(f"surrogate_width must be positive, got {surrogate_width}")
        self.tau, self.v_threshold, self.surrogate_width = tau, v_threshold, surrogate_width

    def steps(self, x_seq: Tensor) -> Tensor:
        return _LIFSteps.apply(x_seq, 1 - 1 / self.tau, self.v_threshold, self.surrogate_width)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, v_threshold={self.v_threshold:g}, surrogate_width={self.surrogate_width:g}"
