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
    published = {"input": "embedding.input_conv", "gate": "embedding.gate_conv"}

    def initial_state(self, x: Tensor) -> Carried:
        rest = torch.zeros_like(x[:, 0])
        return {"v": rest, "s": rest, "sum": rest, "bins": rest}

    def sample(self, bins: Tensor, state: Carried | None) -> tuple[Tensor, Carried]:
        u, s, v = self.potentials(bins, state)
        fired = s.detach()
        segment = fired.cumsum(0) - fired  # that each bin belongs to
        open_before = (0, 0) if state is None else (state["sum"], state["bins"])
        frames = [self.frame(k, segment, u, s, v, open_before if k == 0 else (0, 0)) for k in range(self.out_steps)]
        after = {"v": v[-1], "s": s[-1], "sum": torch.zeros_like(v[0]), "bins": torch.zeros_like(v[0])}
        if self.rpd and not self.memoryless:
            spikes = fired.sum(0)
            inside, none = number(torch.eq, segment, spikes), number(torch.eq, spikes, 0)
            after["sum"] = (u * inside).sum(0) + none * open_before[0]
            after["bins"] = inside.sum(0) + none * open_before[1]
        return torch.stack(frames), after

    def frame(
        self, k: int, segment: Tensor, u: Tensor, s: Tensor, v: Tensor, before: tuple[Tensor | int, Tensor | int]
    ) -> Tensor:
        """Frame k [B, C, H, W]; before: sum of U, and number of bins, of its segment in the windows before this one."""
        fired = s.detach()
        inside = number(torch.eq, segment, k)
        ends = fired * inside  # 1 in the last bin of a closed segment
        if self.readout == "last":
            last = torch.cat([ends[:-1], inside[-1:]])  # also where it is open
            value = (v * last).sum(0)
        else:
            value = (u * inside).sum(0) + before[0]
        if self.readout == "avg":
            value = value / (inside.sum(0) + before[1]).clamp(min=1)
        weight = ((s if self.sat else fired) * ends).sum(0)
        return value * (weight if self.rpd else weight + (1 - ends.sum(0)))

    def closing_bins(self, s: Tensor) -> Tensor:
        """Bin that closed each frame, [out_steps, B, C, H, W] int64, 0 the oldest of the window, -1 where it is open;
        of the spikes of a window [Tm, B, C, H, W], in the order in which the bins were read."""
        order = torch.arange(len(s), device=s.device)
        bin_after = (1 + (order.flip(0) if self.reverse else order)).view(-1, *[1] * (s.dim() - 1))
        segment = s.cumsum(0) - s
        return torch.stack([(s * (segment == k) * bin_after).sum(0).long() - 1 for k in range(self.out_steps)])
