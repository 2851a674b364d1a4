"""Encoders: turn a batch of images or events into the time steps [T, B, C, H, W] that a network takes."""

from __future__ import annotations

from torch import Tensor, nn

from registry import UserError

from .layers.time import repeat_over_time


class DirectEncoder(nn.Module):
    """Direct coding: images [B, C, H, W] are repeated T times (a view), event frames [T, B, C, H, W] pass unchanged.

    Args:
        T: steps that an image is shown for, and the number of frames that an event sample must have.

    UserError for event frames of another T, and for micro-bins, which need a learned sampler.
    """

    def __init__(self, T: int):
        super().__init__()
        if T < 1:
            raise UserError(f"T must be at least 1, got {T}")
        self.T = T

    def forward(self, x: Tensor) -> Tensor:
        self.check(tuple(x.shape))
        return repeat_over_time(x, self.T) if x.dim() == 4 else x

    def step(self, x: Tensor, t: int) -> Tensor:
        """Step t >= 0 of the encoded batch, [1, B, C, H, W].

        An image can be shown for longer than T: its code begins again after T steps. UserError beyond the last of
        event frames. Here it is `forward(x)` at t, a view, so that a subclass may override `forward` alone.
        """
        x_TBCHW = self(x)
        if x.dim() == 4:
            t %= self.T
        elif t >= self.T:
            raise UserError(f"t = {t}: the events have T={self.T} frames, so t must be below {self.T}")
        return x_TBCHW[t : t + 1]

    def constant(self, x: Tensor) -> bool:
        """Whether all steps of this batch are equal: images, unless a subclass has another code for them."""
        return x.dim() == 4 and type(self).forward is DirectEncoder.forward

    def check(self, shape: tuple[int, ...]) -> None:
        """UserError for a batch of a shape that is not accepted."""
        if len(shape) == 6:
            raise UserError(
                f"events with an axis of micro-bins, [B, T, bins, C, H, W] = {shape}: only an encoder with a learned "
                "sampler takes them. For this model set data.args.representation to stacked_histogram, which has the "
                "bins in its channels, or to counts"
            )
        if len(shape) not in (4, 5):
            raise UserError(f"expected images [B, C, H, W] or events [T, B, C, H, W], got {shape}")
        if len(shape) == 5 and shape[0] != self.T:
            raise UserError(f"the model was built for T={self.T} steps, but the events have T={shape[0]}: {shape}")
