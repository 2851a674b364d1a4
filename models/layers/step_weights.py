"""StepWeights: learned weights of the T steps, in front of the convolution that gives the logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurons import StatefulNeuron
from neurons.state import State


class StepWeights(StatefulNeuron):
    """x [K, B, ...] -> T w[t mod T] x[t], of which the mean over K = T steps is the sum of w[t] x[t].

    Within a `neurons.Stream` t goes on from call to call, for each row of the batch from its own start, so that the
    mean over calls with one step each is that of one call. More than T steps begin again with w[0], as a window of T
    steps that follows; fewer have the first of the weights.

    Args:
        T: number of weights, which are 1/T at the start: the mean.
    """

    spiking = False

    def __init__(self, T: int):
        super().__init__()
        self.weight = nn.Parameter(torch.full((T,), 1 / T))

    def initial_state(self, x: Tensor) -> Tensor:
        return torch.zeros(x.shape[:1], dtype=torch.int64, device=x.device)

    def advance(self, x_seq: Tensor, state: State | None, return_state: bool) -> tuple[Tensor, State | None]:
        """The state is the index t of the next step, [B]."""
        T, t = len(self.weight), torch.arange(len(x_seq), device=x_seq.device)[:, None]
        if state is not None:
            assert isinstance(state, Tensor)
            t = t + state  # [K, B]; from the start [K, 1]
        weights = T * self.weight[t % T]
        y_seq = x_seq * weights.to(x_seq.dtype).view(*t.shape, *[1] * (x_seq.ndim - 2))
        return y_seq, ((t[-1] + 1) % T).expand(x_seq.shape[1]) if return_state else None

    def extra_repr(self) -> str:
        return f"T={len(self.weight)}"
