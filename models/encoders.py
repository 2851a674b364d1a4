"""Encoders: turn a batch of images or events into the time steps [T, B, C, H, W] that a network takes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from registry import UserError, none_of

from .contracts import Encoder, EncodesSteps
from .layers.time import repeat_over_time

# (mean, standard deviation) per channel of RGB
PIXELS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "bgr255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}
ROUNDING: dict[str, Callable[[Tensor], Tensor]] = {"round": torch.round, "floor": torch.floor}


def direct(T: int, pixels: str | None) -> DirectEncoder:
    """Direct coding of pixels in 0..1, or of a kind of `PIXELS`."""
    return DirectEncoder(T) if pixels is None else PixelEncoder(T, pixels)


def encode_step(encoder: Encoder, x: Tensor, t: int) -> Tensor:
    """Step t of `encoder(x)`, [1, B, C, H, W], t from 0; without making the others if the encoder can."""
    return encoder.step(x, t) if isinstance(encoder, EncodesSteps) else encoder(x)[t : t + 1]


class DirectEncoder(nn.Module):
    """Direct coding: images [B, C, H, W] are repeated T times (a view), event frames [T, B, C, H, W] pass unchanged.

    Args:
        T: steps that an image is shown for, and the number of frames that an event sample must have.

    UserError for event frames of another T, and for micro-bins, which need a learned sampler.
    """

    input_scale = 1.0  # value of a pixel whose code has the mean 1 over the steps

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


class PixelEncoder(DirectEncoder):
    """Direct coding of images in the pixel values that published weights were trained with, from RGB in 0..1.

    Args: `T` as in `DirectEncoder`; `pixels`: "imagenet", (X - mean) / std by the statistics of ImageNet, or "bgr255",
    255 X with the channels in reverse, as YOLOX has them. UserError for other inputs than images of 3 channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, T: int, pixels: str):
        super().__init__(T)
        if pixels not in PIXELS:
            raise UserError(none_of(f"pixels = {pixels!r}", pixels, PIXELS))
        self.pixels = pixels
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in PIXELS[pixels])
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.check(tuple(x.shape))
        x = (x - self.mean) / self.std
        return super().forward(x.flip(1) if self.pixels == "bgr255" else x)

    def constant(self, x: Tensor) -> bool:
        return True

    def check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 4 or shape[1] != 3:
            raise UserError(f"pixels = {self.pixels!r}: needs images [B, 3, H, W], got {shape}: leave it out")


class StepEncoder(DirectEncoder):
    """A code of images, from its steps: subclasses implement `code`. Event frames pass unchanged."""

    def code(self, x: Tensor, t: int) -> Tensor:
        """Step t >= 0 of images x [B, C, H, W] in 0..1, of the same shape; also for t >= T."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        self.check(tuple(x.shape))
        return torch.stack([self.code(x, t) for t in range(self.T)]) if x.dim() == 4 else x

    def step(self, x: Tensor, t: int) -> Tensor:
        return self.code(x, t)[None] if x.dim() == 4 else super().step(x, t)


class BernoulliEncoder(StepEncoder):
    """Rate coding: S[t] = [gain X - R >= 0], R uniform in [0, 1) for each pixel, channel and step

    so that the firing rate is gain X, up to 1. Equation 17 of the double-threshold paper. R depends on (seed, t) and
    the size of an image alone: all images of a batch have the same R, and results depend neither on T nor on the batch.

    Args: `T` as in `DirectEncoder`; `gain`: firing rate of a pixel of value 1, > 0; `seed`: >= 0.
    """

    def __init__(self, T: int, gain: float = 1.0, seed: int = 0):
        super().__init__(T)
        if not 0 < gain < math.inf:
            raise UserError(f"gain = {gain}: give a positive number")
        self.gain, self.seed = gain, seed
        self.input_scale = 1 / gain

    def uniform(self, t: int, like: Tensor) -> Tensor:
        """R of step t, for an image like `like` [C, H, W]."""
        return uniform((self.seed, t), like)

    def code(self, x: Tensor, t: int) -> Tensor:
        return (self.gain * x >= self.uniform(t, x[0])).to(x.dtype)


class LatencyEncoder(StepEncoder):
    """Latency coding: one spike per pixel and channel in T steps, at step (T - 1) (1 - X): the brighter, the earlier

    X is clipped to 0..1. The double-threshold paper describes it as an alternative to rates. For more than T steps the
    code begins again.

    Args: `T` as in `DirectEncoder`; `rounding` of the step: "round", as SpikingJelly's `LatencyEncoder("linear")`, or
    "floor".
    """

    def __init__(self, T: int, rounding: str = "round"):
        super().__init__(T)
        if rounding not in ROUNDING:
            raise UserError(none_of(f"rounding = {rounding!r}", rounding, sorted(ROUNDING)))
        self.rounding = rounding

    def code(self, x: Tensor, t: int) -> Tensor:
        return (ROUNDING[self.rounding]((self.T - 1) * (1 - x.clamp(0, 1))) == t % self.T).to(x.dtype)


def uniform(seed: tuple[int, ...], like: Tensor) -> Tensor:
    """Numbers in [0, 1) of the shape and device of `like`, float32, that depend on `seed` and the shape alone.

    Drawn by NumPy on the CPU, for the same numbers on every device; torch's CPU generator uses 32 bits of its seed.
    """
    if min(seed) < 0:
        raise UserError(f"seed = {seed[0]}: give 0 or more")
    draw = np.random.default_rng(seed).random(like.shape, dtype=np.float32)
    return torch.from_numpy(draw).to(like.device)
