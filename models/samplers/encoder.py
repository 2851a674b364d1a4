"""SamplerEncoder: the frames of a learned sampler as the T steps of a network."""

from __future__ import annotations

from torch import Tensor, nn

from registry import UserError

from ..layers.time import repeat_over_time
from .base import Sampler


class SamplerEncoder(nn.Module):
    """Micro-bins [B, Tl, Tm, C, H, W] -> [T, B, C, H, W] by a sampler, which makes Tl * out_steps frames of them.

    One frame is repeated T times, as published with `out_steps` 1; T frames are the T steps; with T = 1, a network
    without time, only the first frame is used. UserError for any other number of frames.

    An image [B, C, H, W] is one window of one micro-bin, and event frames [T, B, C, H, W] are T windows of one.

    Args:
        T: steps of the network.
        sampler: windows [Tl, B, Tm, C, H, W] -> frames [Tl, out_steps, B, C, H, W]; see `build_sampler`.
    """

    sampler: Sampler

    def __init__(self, T: int, sampler: Sampler):
        super().__init__()
        if T < 1:
            raise UserError(f"T must be at least 1, got {T}")
        self.T, self.sampler = T, sampler

    def forward(self, x: Tensor) -> Tensor:
        self.check(tuple(x.shape))
        frames = self.sampler(windows(x)).flatten(0, 1)
        return frames[: self.T] if self.T <= len(frames) else repeat_over_time(frames[0], self.T)

    def check(self, shape: tuple[int, ...]) -> None:
        """UserError for a batch of a shape that is not accepted."""
        if len(shape) not in (4, 5, 6):
            raise UserError(
                f"expected micro-bins [B, T, bins, C, H, W], events [T, B, C, H, W] or images [B, C, H, W], got {shape}"
            )
        count = {4: 1, 5: shape[0], 6: shape[1]}[len(shape)]
        frames = count * self.sampler.out_steps
        if frames in (1, self.T) or self.T == 1:
            return
        built = f"the model was built for T={self.T} steps, but"
        if len(shape) == 5 and self.sampler.out_steps == 1:
            raise UserError(f"{built} the events have T={count}: {shape}")
        raise UserError(
            f"{built} the sampler gives {frames} frames: {count} windows of out_steps={self.sampler.out_steps} each, "
            f"from {shape}. It must give 1 or {self.T}"
        )

    def published_names(self) -> dict[str, str]:
        names = {}
        for part, theirs in self.sampler.published.items():
            for key in self.sampler.state_dict():
                if key == part or key.startswith(f"{part}."):
                    names[f"sampler.{key}"] = f"{theirs}{key.removeprefix(part)}"
        return names


def windows(x: Tensor) -> Tensor:
    """A batch of a dataset as windows of micro-bins [Tl, B, Tm, C, H, W]."""
    if x.dim() == 6:
        return x.transpose(0, 1)
    return (x[None] if x.dim() == 4 else x).unsqueeze(2)
