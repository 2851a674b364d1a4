"""Max pooling in spiking networks, whose step knows no maximum: by what each input has accumulated so far."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neurons import StatefulNeuron
from neurons.state import State


class _AccumulatingPool(StatefulNeuron):
    """Pooling of x [T, B, C, H, W], whose state is N[t] = N[t-1] + x[t]. `window`: arguments of `F.max_pool2d`."""

    spiking = False  # not a layer of neurons of its own

    def __init__(self, window: dict[str, Any]):
        super().__init__()
        self.window = window

    def initial_state(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def advance(self, x_seq: Tensor, state: State | None, return_state: bool) -> tuple[Tensor, State | None]:
        counts = self.initial_state(x_seq[0]) if state is None else state
        assert isinstance(counts, Tensor)
        y_seq = []
        for x in x_seq:
            before, counts = counts, counts + x
            y_seq.append(self.pool(x, before, counts))
        return torch.stack(y_seq), counts

    def pool(self, x: Tensor, before: Tensor, counts: Tensor) -> Tensor:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.window.items())


class GatedMaxPool(_AccumulatingPool):
    """Of each window passes the spike of the input with the largest spike count so far, this step's included.

    Of equal counts the first in raster order wins; positions of implicit padding never do. The count of signed spikes
    is positive minus negative ones. Rueckauer et al., "Conversion of Continuous-Valued Deep Networks to Efficient
    Event-Driven Networks for Image Classification", 2017.
    """

    def pool(self, x: Tensor, before: Tensor, counts: Tensor) -> Tensor:
        _, winner = F.max_pool2d(counts, **self.window, return_indices=True)
        return x.flatten(-2).gather(-1, winner.flatten(-2)).view_as(winner)


class AccumulatedMaxPool(_AccumulatingPool):
    """y[t] = max N[t] - max N[t-1] over the window, so that the sum of y over time is the largest sum of the inputs.

    Exact where the gated pool is not, since a change of the winner is made up for. Spikes of 0 and 1 give 0 and 1,
    signed ones -1, 0 and 1. Also for currents (membrane shortcuts), of which the maximum at one step means nothing.
    """

    def pool(self, x: Tensor, before: Tensor, counts: Tensor) -> Tensor:
        return F.max_pool2d(counts, **self.window) - F.max_pool2d(before, **self.window)
