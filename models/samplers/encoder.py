"""SamplerEncoder: the frames of a learned sampler as the T steps of a network."""

from __future__ import annotations

from torch import Tensor, nn

from registry import UserError

from ..layers.time import repeat_over_time
from .base import Sampler
from .spiking import SpikingSampler


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
        count, _ = windows_and_bins(shape)
        frames = count * self.sampler.out_steps
        if frames in (1, self.T) or self.T == 1:
            return
        frames_alone = len(shape) == 5 and self.sampler.out_steps == 1
        have = f"the events have T={count}" if frames_alone else self._made(shape)
        raise UserError(
            f"the model was built for T={self.T} steps, but {have}: {shape}. Set data.args.num_steps (windows) or "
            f"model.args.sampler.out_steps so that it is 1 frame or {self.T}"
        )

    def fixed_steps(self, windows: int) -> int | None:
        """Number of frames of `windows` windows; None for one, which is repeated for any T."""
        frames = windows * self.sampler.out_steps
        return None if frames == 1 else frames

    def describe(self, shape: tuple[int, ...]) -> str:
        """A line for the user about a batch of this shape."""
        count, bins = windows_and_bins(shape)
        frames = count * self.sampler.out_steps
        use = "" if frames == self.T else ", the first of them used" if frames > 1 else f", repeated for T={self.T}"
        more = "; data.args.representation=micro_bins gives a window several" if bins == 1 else ""
        return f"sampler {type(self.sampler).__name__}: {self._made(shape)}{use}{more}"

    def _made(self, shape: tuple[int, ...]) -> str:
        (count, bins), each = windows_and_bins(shape), self.sampler.out_steps
        made = [_plural(count, "window"), _plural(bins, "micro-bin")]
        several = f" (out_steps={each})" if each > 1 else ""
        give = "gives" if count == 1 else "give"
        return f"{made[0]} of {made[1]} {give} {_plural(count * each, 'frame')}{several}"

    def closing_layer(self) -> nn.Module | None:
        return self.sampler.fired if isinstance(self.sampler, SpikingSampler) and self.sampler.several else None

    def closing_bins(self, spikes: Tensor) -> Tensor:
        return self.sampler.closing_bins(spikes)

    def published_names(self) -> dict[str, str]:
        names = {}
        for part, theirs in self.sampler.published.items():
            for key in self.sampler.state_dict():
                if key == part or key.startswith(f"{part}."):
                    names[f"sampler.{key}"] = f"{theirs}{key.removeprefix(part)}"
        return names


def windows_and_bins(shape: tuple[int, ...]) -> tuple[int, int]:
    """(windows, micro-bins of each) of a batch of this shape."""
    return {4: (1, 1), 5: (shape[0], 1), 6: (shape[1], shape[2])}[len(shape)]


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def windows(x: Tensor) -> Tensor:
    """A batch of a dataset as windows of micro-bins [Tl, B, Tm, C, H, W]."""
    if x.dim() == 6:
        return x.transpose(0, 1)
    return (x[None] if x.dim() == 4 else x).unsqueeze(2)
