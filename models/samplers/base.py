"""Sampler: what all samplers share, their arguments and the windows of a call."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from neurons import StatefulNeuron
from neurons.base import without_autocast
from neurons.multistep.formulas import compute_dtype
from neurons.state import State
from registry import UserError, none_of

READOUTS = ("sum", "last", "avg")

Carried = dict[str, Tensor]  # the state of a sampler, each [B, ...]


class Sampler(StatefulNeuron):
    """Windows of micro-bins [Tl, B, Tm, C, H, W] -> frames [Tl, out_steps, B, C, H, W], for every pixel and
    channel apart. EAS-SNN (Wang et al., ECCV 2024).

    Its steps are windows. With `reverse` the bins of a window are read from the newest to the oldest, as published,
    so that windows are independent of each other. Without it a window begins in the state in which the last one of the
    call, and within a `neurons.Stream` of the last call, ended. All in float32, also under autocast.

    All samplers take all arguments, so that an ablation changes the name alone:

                  arsnn        rsnn         snn          count
        k         kernel size  kernel size  kernel size
        depth     of stacks    of stacks    of stack
        out_steps frames       1            1            1
        rpd       yes
        sat       yes
        readout   per segment  per window   per window   per window
        reverse   yes          yes          yes          for `last`

    Args:
        channels: C.
        k: odd kernel size of the convolutions.
        depth: convolutions per stack, with ReLU between them.
        out_steps: frames per window.
        rpd: residual potential dropout, see `arsnn`.
        sat: spike-aware training, see `arsnn`.
        readout: value of a frame. sum: of the potentials u before reset; avg: their mean; last: the potential v after
            reset in the last bin.
        reverse: read the newest bin first.
    """

    spiking = False  # its frames are potentials
    several = False  # whether a window can have several frames
    published: dict[str, str] = {}  # {our name of a part with weights: its published name}

    def __init__(
        self, channels: int, *, k: int = 5, depth: int = 2, out_steps: int = 1, rpd: bool = True, sat: bool = True,
        readout: str = "sum", reverse: bool = True,
    ):  # fmt: skip
        super().__init__()
        for name, value in (("k", k), ("depth", depth), ("out_steps", out_steps)):
            if value < 1:
                raise UserError(f"{name} = {value}: give at least 1")
        if k % 2 == 0:
            raise UserError(f"k = {k}: give an odd kernel size, so that frames have the size of the bins")
        if readout not in READOUTS:
            raise UserError(none_of(f"readout = {readout!r}", readout, READOUTS))
        self.out_steps, self.rpd, self.sat, self.readout, self.reverse = out_steps, rpd, sat, readout, reverse
        if out_steps > 1 and not self.several:
            raise UserError(f"out_steps = {out_steps}: {type(self).__name__} gives one frame per window, arsnn several")
        self.channels, self.k, self.depth, self.memoryless = channels, k, depth, reverse

    @abstractmethod
    def sample(self, bins: Tensor, state: Carried | None) -> tuple[Tensor, Carried]:
        """(frames [out_steps, B, C, H, W], state after) of one window, bins [Tm, B, C, H, W] in the order in which they
        are read; from the initial state if `state` is None."""

    def advance(self, x_seq: Tensor, state: State | None, return_state: bool) -> tuple[Tensor, State | None]:
        assert state is None or isinstance(state, dict)
        windows, batch = x_seq.shape[:2]
        with without_autocast(x_seq):
            x = x_seq.to(compute_dtype(x_seq.dtype))
            if self.reverse:
                frames, _ = self.sample(x.flatten(0, 1).transpose(0, 1).flip(0), None)
                frames_of = frames.unflatten(1, (windows, batch)).transpose(0, 1)
            else:
                found = []
                for window in x:
                    frames, state = self.sample(window.transpose(0, 1), state)
                    found.append(frames)
                frames_of = torch.stack(found)
            return frames_of.to(x_seq.dtype), state

    def extra_repr(self) -> str:
        names = "out_steps", "rpd", "sat", "readout", "reverse"
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)
