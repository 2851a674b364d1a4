"""TemporalEncoder: the steps of a still image differ, by learned features that are added from step to step."""

from __future__ import annotations

from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry import UserError

from .encoders import DirectEncoder

GAIN = 0.1  # of BatchNorm at the start: the first steps of a training are near direct coding


class TemporalEncoder(nn.Module):
    """Images [B, C, H, W] -> x [T, B, C, H, W], with the pixels p of an image in the units of the network:

        x[t] = alpha_b (1 - tau[t]) p + alpha_c tau[t] f[t],    tau[t] = t / (t + 1)
        f[t] = f[t-1] + ReLU(BN(conv(p))),  a 3 x 3 convolution and a BatchNorm for each t >= 1;  f[0] = p

    alpha_b and alpha_c are learned, 1 at the start; the first step is alpha_b p. With T = 1 there is no other.

    The spiking encoder of TDE (Luo et al., "Temporal Dynamics Enhancer for Directly Trained Spiking Object Detectors",
    AAAI 2026, arXiv 2512.02447), with tau a constant of the step. Differs from it:

    * tau[t] is there an attention over the steps, in the published code that of the forward pass before, so that the
      output for an image depends on the images before it. Here the same image has the same code.
    * It stands before the network's own stem, at the size and channels of the image. There the base p is a stem of its
      own, ReLU(BN(conv 7 x 7, stride 4)), with features of as many channels.
    * The convolutions see p; there f[t-1], in the published code mixed with the base by the rule for x[t]. So all steps
      are one convolution here.
    * f[0] = p; there the first step has a convolution as well.
    * BatchNorm gains start at 0.1, there at 1.

    Args:
        pixels: encoder that gives p, and T: the number of steps that have features. An image can be shown for longer:
            its code begins again. With fewer steps it ends earlier.
        channels: C of the image.
    """

    def __init__(self, pixels: DirectEncoder, channels: int):
        super().__init__()
        self.pixels, self.T, self.length = pixels, pixels.T, pixels.T
        self.alpha_b, self.alpha_c = (nn.Parameter(torch.ones(())) for _ in range(2))
        if self.length > 1:
            self.conv = nn.Conv2d(channels, channels * (self.length - 1), 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(channels * (self.length - 1))
            nn.init.constant_(self.bn.weight, GAIN)

    def forward(self, x: Tensor) -> Tensor:
        self.check(tuple(x.shape))
        code = self.code(x)
        rounds = -(-self.T // self.length)
        return (code if rounds == 1 else code.repeat(rounds, 1, 1, 1, 1))[: self.T]

    def step(self, x: Tensor, t: int) -> Tensor:
        """Step t >= 0 of the encoded images, [1, B, C, H, W]; also for t >= T."""
        self.check(tuple(x.shape))
        return self.code(x)[t % self.length][None]

    def code(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> the steps that have features, [length, B, C, H, W]."""
        p = self.pixels.step(x, 0)[0]
        features = [p]
        if self.length > 1:
            added = F.relu(self.bn(self.conv(p))).unflatten(1, (self.length - 1, p.shape[1]))
            features = list(accumulate([p, *added.unbind(1)]))
        t = torch.arange(self.length, device=p.device, dtype=p.dtype).view(-1, 1, 1, 1, 1)
        tau = t / (t + 1)
        return self.alpha_b * (1 - tau) * p + self.alpha_c * tau * torch.stack(features)

    def constant(self, x: Tensor) -> bool:
        return self.length == 1

    def check(self, shape: tuple[int, ...]) -> None:
        """UserError for a batch of another shape than images."""
        if len(shape) == 5:
            raise UserError(
                f"encoder = 'temporal': makes the steps of images [B, C, H, W], got events {shape}, whose steps differ "
                "by themselves: leave model.args.encoder out"
            )
        self.pixels.check(shape)
