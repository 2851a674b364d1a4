"""Noise on the input of a detector, an encoder around another: `SaltAndPepper(model.encoder, density=0.1)`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from registry import UserError

from .contracts import ChecksShape, Encoder, EncodesSteps
from .encoders import encode_step, uniform


class SaltAndPepper(nn.Module):
    """Salt-and-pepper noise in `noisy_steps` of every `period` consecutive steps: the first of each period

    A share `density` of the pixels, half of it each, becomes 0 or 1 in all channels: of the image, before it is
    encoded; of event frames, of each frame that the encoder gives, where the largest value of an image's frame takes
    the place of 1. The pixels depend on (seed, t) and the size of the input alone, so that results depend neither on T
    nor on the batch. The robustness test of the double-threshold paper: two of five steps, densities 0 to 0.3; the ANN
    sees the noisy image (T = 1). The paper does not say which steps.

    Args:
        encoder: the encoder of the detector.
        density: share of noisy pixels, 0..1.
        noisy_steps, period: 0 <= noisy_steps <= period.
        seed: >= 0.
    """

    def __init__(self, encoder: Encoder, density: float, noisy_steps: int = 2, period: int = 5, seed: int = 0):
        super().__init__()
        if not 0 <= density <= 1:
            raise UserError(f"density = {density}: give a share of the pixels, 0 to 1")
        if not 0 <= noisy_steps <= period or period < 1:
            raise UserError(
                f"noisy_steps = {noisy_steps}: give 0 to period = {period} steps, and a period of at least 1"
            )
        self.encoder, self.density, self.noisy_steps, self.period, self.seed = (
            encoder,
            density,
            noisy_steps,
            period,
            seed,
        )

    @property
    def T(self) -> int:
        return self.encoder.T

    @T.setter
    def T(self, steps: int) -> None:
        self.encoder.T = steps

    @property
    def input_scale(self) -> float:
        return getattr(self.encoder, "input_scale", 1.0)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4:
            return torch.cat([self.step(x, t) for t in range(self.T)])
        return torch.stack([self.noisy(frame, t) for t, frame in enumerate(self.encoder(x))])

    def step(self, x: Tensor, t: int) -> Tensor:
        """Step t >= 0 of the encoded batch, [1, B, C, H, W]."""
        if x.dim() == 4:
            return encode_step(self.encoder, self.noisy(x, t, torch.ones_like(x[:, :1, :1, :1])), t)
        return self.noisy(encode_step(self.encoder, x, t)[0], t)[None]

    def constant(self, x: Tensor) -> bool:
        """Whether all steps of this batch are equal: only without noise."""
        unchanged = self.density == 0 or self.noisy_steps == 0
        return unchanged and isinstance(self.encoder, EncodesSteps) and self.encoder.constant(x)

    def check(self, shape: tuple[int, ...]) -> None:
        """UserError for a batch of a shape that the encoder does not accept."""
        if isinstance(self.encoder, ChecksShape):
            self.encoder.check(shape)

    def noisy(self, x: Tensor, t: int, salt: Tensor | None = None) -> Tensor:
        """x [B, C, H, W] with the noise of step t; `salt` [B, 1, 1, 1], None: the largest value of each image."""
        if t % self.period >= self.noisy_steps or self.density == 0:
            return x
        salt = x.amax((1, 2, 3), keepdim=True) if salt is None else salt
        draw = uniform((self.seed, t, 1), x[0, 0])  # 1: other numbers than a `BernoulliEncoder` of this seed has
        x = torch.where(draw < self.density, salt, x)
        return x.masked_fill(draw < self.density / 2, 0)
