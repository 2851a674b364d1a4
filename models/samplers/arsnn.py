"""ARSNN, the adaptive sampler of EAS-SNN: at every pixel, a spike closes the event frame."""

from __future__ import annotations

import torch
from torch import Tensor

from neurons.surrogate import number

from .base import Carried
from .registry import SAMPLERS
from .rsnn import RSNN


@SAMPLERS.register("arsnn")
class ARSNN(RSNN):
    """The recurrence of `RSNN`, whose spikes cut the bins of a window into segments, for every pixel and channel apart.

    Segment k ends with the (k+1)-th spike. Frame k is the readout of segment k: the sum of its U, their mean, or V in
    its last bin, which is 0 after a spike. Segments from `out_steps` on are dropped. The bins after the last spike are
    an open segment. EAS-SNN (Wang et al., ECCV 2024).

    Args:
        rpd: residual potential dropout: a segment that is still open at the end of the window gives 0, in training and
            evaluation. Without it the open segment is read out like the others.
        sat: spike-aware training: a closed frame is multiplied by the spike that closes it, 1, whose surrogate
            derivative is the gradient of the loss with respect to closing here.

    Carried from window to window (`reverse=False`): U and V and, with `rpd`, the open segment, which goes on as the
    next window's first. Differs from the published code in form: masks in place of indices, and all bins are computed.
    """

    several = True
    states = ("v", "s", "sum", "bins")  # sum of U, and for the mean number of bins, of the open segment
    published = {"input": "embedding.input_conv", "gate": "embedding.gate_conv"}

    def read_out(self, cells: Tensor, state: Carried | None) -> tuple[Tensor, Tensor, Carried]:
        zero = torch.zeros_like(cells[0])
        total, bins = (zero, zero) if state is None else (state["sum"], state["bins"])
        frames, segment, spikes = [zero] * self.out_steps, zero, []
        for u, s, v in self.potentials(cells, state):
            fired = s.detach()
            total = total + u
            value = v if self.readout == "last" else total
            if self.readout == "avg":
                bins = bins + 1
                value = total / bins
            for k in range(self.out_steps):
                ends = fired * number(torch.eq, segment, k)
                frames[k] = frames[k] + value * (s * ends if self.sat and s.requires_grad else ends)  # s is 1 there
            spikes.append(fired)
            segment, goes_on = segment + fired, 1 - fired
            total = total * goes_on
            if self.readout == "avg":
                bins = bins * goes_on
        if not self.rpd:
            frames = [frame + value * goes_on * number(torch.eq, segment, k) for k, frame in enumerate(frames)]
            total = bins = zero
        return torch.stack(frames), torch.stack(spikes), {"v": v, "s": s, "sum": total, "bins": bins}
