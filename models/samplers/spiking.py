"""SpikingSampler: the bins of a window one after the other through a spiking neuron per pixel and channel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from neurons import MultiStepNeuron, spike

from .base import Carried, Sampler
from .cells import apply, to_cells, to_pixels

Potentials = tuple[Tensor, Tensor, Tensor]  # of one bin: u before reset, spikes s, v after reset


def fire(u: Tensor) -> tuple[Tensor, Tensor]:
    """(s, v): s = [u > 1] with a rectangular surrogate derivative of width 1; v = u (1 - s), with its gradient."""
    s = spike(u - 1.0, "rectangle", inclusive=False)
    return s, u * (1 - s)


class Fired(MultiStepNeuron):
    """The spikes of a window [Tm, B, ...] in the order of the bins, passed on unchanged, for hooks and firing rates."""

    memoryless = True
    signed = False

    def steps(self, x_seq: Tensor) -> Tensor:
        return x_seq


class SpikingSampler(Sampler):
    """A sampler with the recurrence `potentials`, and one frame per window unless `read_out` is overridden.

    In between bins and frames tensors hold cells of pixels, see `cells`.
    """

    states: tuple[str, ...] = ("v", "s")  # what is carried from window to window, 0 at the start

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(channels, **kwargs)
        self.fired = Fired()

    @abstractmethod
    def potentials(self, cells: Tensor, state: Carried | None) -> Iterable[Potentials]:
        """U, S and V of each bin [B, h, w, 4 C], of bins [Tm, B, h, w, 4 C]."""

    def initial_state(self, x: Tensor) -> Carried:
        return dict.fromkeys(self.states, torch.zeros_like(to_cells(x[:, 0])))

    def sample(self, bins: Tensor, state: Carried | None) -> tuple[Tensor, Carried]:
        frames, spikes, state = self.read_out(to_cells(bins), state)
        self.fired(spikes)
        return to_pixels(frames, self.channels), state

    def read_out(self, cells: Tensor, state: Carried | None) -> tuple[Tensor, Tensor, Carried]:
        """(frames [out_steps, B, h, w, 4 C], spikes of all bins, state after the window)."""
        us, ss, vs = zip(*self.potentials(cells, state), strict=True)
        frame = vs[-1] if self.readout == "last" else sum(us) / (len(us) if self.readout == "avg" else 1)
        return frame[None], torch.stack(ss).detach(), {"v": vs[-1], "s": ss[-1]}

    def closing_bins(self, s: Tensor) -> Tensor:
        """Bin of the (k+1)-th spike, which closes frame k where spikes do: [out_steps, B, C, H, W] int64, 0 the
        oldest of the window, -1 where there is none; of what `fired` emits for a window."""
        order = torch.arange(len(s), device=s.device)
        bin_after = (1 + (order.flip(0) if self.reverse else order)).view(-1, *[1] * (s.dim() - 1))
        segment = s.cumsum(0) - s
        bins = [(s * (segment == k) * bin_after).sum(0) - 1 for k in range(self.out_steps)]
        return to_pixels(torch.stack(bins), self.channels).long()

    @staticmethod
    def over_bins(layers: nn.Module, cells: Tensor) -> Tensor:
        """A stack of convolutions over all bins [Tm, B, h, w, c] in one call."""
        return apply(layers, cells.flatten(0, 1)).unflatten(0, cells.shape[:2])
