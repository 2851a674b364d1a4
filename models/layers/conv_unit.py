"""ConvUnit: convolution - BatchNorm - neuron, a layer whose output, not its input, is made of spikes."""

from __future__ import annotations

from torch import Tensor, nn

from .time import over_time


class ConvUnit(nn.Module):
    """x [T, B, c1, H, W] -> [T, B, c2, H', W']: k x k convolution without bias, BatchNorm over T, B, H, W, neuron.

    Args:
        neuron: None for a layer without one, whose output is summed before its neuron.
        transposed: a transposed convolution, from which stride 2 gives [2H, 2W].
        groups: of the convolution; c1 for one per channel.
        eps, momentum: of BatchNorm.
    """

    def __init__(
        self, c1: int, c2: int, neuron: nn.Module | None, k: int = 3, s: int = 1, transposed: bool = False,
        eps: float = 1e-5, momentum: float = 0.1, groups: int = 1,
    ):  # fmt: skip
        super().__init__()
        self.conv = (
            nn.ConvTranspose2d(c1, c2, k, s, k // 2, output_padding=s - 1, bias=False)
            if transposed
            else nn.Conv2d(c1, c2, k, s, (k - 1) // 2, groups=groups, bias=False)
        )
        self.bn = nn.BatchNorm2d(c2, eps, momentum)
        self.neuron = neuron or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(over_time(self.bn, over_time(self.conv, x)))
