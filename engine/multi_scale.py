"""Input sizes that change during training (`train.multi_scale`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

EVERY = 10  # steps of one size: Redmon and Farhadi, "YOLO9000", CVPR 2017, section 2

Targets = list[dict[str, Tensor] | None]


class MultiScale:
    """A function of the step: (height, width) of its images, for all processes and after a resume alike.

    Each `EVERY` steps a factor is drawn from `factors` (low, high), uniformly, by (seed, step) alone. Each side of
    `size` times the factor is rounded to a multiple of `stride`, of at least one. Differs from YOLO9000 in a factor of
    any `size`, which keeps its aspect ratio up to rounding, in place of one of ten sizes.
    """

    def __init__(self, factors: Sequence[float], size: tuple[int, int], stride: int, seed: int):
        (self.low, self.high), self.size, self.stride, self.seed = factors, size, stride, seed

    def __call__(self, step: int) -> tuple[int, int]:
        factor = np.random.default_rng([self.seed, step // EVERY]).uniform(self.low, self.high)
        return self._rounded(factor)

    def _rounded(self, factor: float) -> tuple[int, int]:
        height, width = (max(round(side * factor / self.stride), 1) * self.stride for side in self.size)
        return height, width

    def __str__(self) -> str:
        ends = [" x ".join(map(str, self._rounded(factor))) for factor in (self.low, self.high)]
        return f"images of {ends[0]} to {ends[1]}, another size every {EVERY} steps"


def resized(x: Tensor, targets: Targets, size: tuple[int, int]) -> tuple[Tensor, Targets]:
    """Images [B, C, H, W] and their boxes, xyxy in pixels, at another (height, width); smaller ones antialiased."""
    height, width = x.shape[-2:]
    if (height, width) == size:
        return x, targets
    scale = x.new_tensor([size[1] / width, size[0] / height] * 2)
    x = F.interpolate(x, size, mode="bilinear", antialias=True)
    return x, [None if t is None else {**t, "boxes": t["boxes"] * scale} for t in targets]
