"""LogHistogram: percentiles of a stream of tensors in memory that does not depend on how many there are."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

# Bin 0 holds [0, 2 ** LOWEST), the last one also everything from 2 ** HIGHEST on. In between, an octave has 128 bins:
# the exponent of a float32 and the first 7 bits of its mantissa, read off its bits, are the number of the bin.
LOWEST, HIGHEST, MANTISSA = -16, 16, 7
BINS = 1 + ((HIGHEST - LOWEST) << MANTISSA)
_SHIFT = 23 - MANTISSA
_BEFORE = ((127 + LOWEST) << MANTISSA) - 1  # what the bits of 2 ** LOWEST, shifted, are above bin 1, less 1
BIN_WIDTH = 2.0**-MANTISSA  # the largest width of a bin, relative to its lower edge


class LogHistogram:
    """Counts of magnitudes |x| in `rows` histograms, one per channel, and the exact maximum of each.

    A bin is at most 1/128 = 0.8 % wide, relative to its values, from 1.5e-5 to 65536; smaller magnitudes count as 0,
    larger ones go to the last bin. Counts are int64: the order of the data does not matter, nor how it is cut into
    calls. Everything stays on the device, and no call waits for a GPU.
    """

    def __init__(self, rows: int, device: torch.device):
        self.counts = torch.zeros(rows, BINS, dtype=torch.int64, device=device)
        self.maximum = torch.zeros(rows, dtype=torch.float64, device=device)  # NaN or infinite once a value was
        self.total = 0  # values per row
        self._rows = (torch.arange(rows, device=device) * BINS).view(-1, 1)
        self._one = torch.ones((), dtype=torch.int64, device=device)

    def add(self, x: Tensor) -> None:
        """Count x [N, rows, L], or with one row all of x [N, C, L]."""
        rows = len(self.counts)
        magnitude = x.detach().abs()
        largest = magnitude.amax((0, 2)) if rows > 1 else magnitude.amax().view(1)
        self.maximum = torch.maximum(self.maximum, largest.double())
        self.total += x.numel() // rows
        at = (bins(magnitude) + self._rows).flatten()
        self.counts.view(-1).index_add_(0, at, self._one.expand_as(at))

    def percentile(self, p: float) -> Tensor:
        """[rows]: the p-th percentile, linear between two values as in `torch.quantile` and numpy; 100: the maximum.

        Each of the two is the upper edge of its bin, at most the maximum, so that the result is not below the
        percentile, and above it by less than the width of a bin.
        """
        if p == 100:
            return self.maximum
        at = (self.total - 1) * Fraction(repr(float(p))) / 100  # in the sorted values, from 0
        below = math.floor(at)
        low, high = self._value(below), self._value(min(below + 1, self.total - 1))
        return low + float(at - below) * (high - low)

    def _value(self, rank: int) -> Tensor:
        """[rows]: the upper edge of the bin of the value that `rank` values of its row come before, 0 for bin 0."""
        at = (self.counts.cumsum(1) > rank).int().argmax(1)  # the first True
        edges = torch.cat([self.maximum.new_zeros(1), self._lower()[2:], self.maximum.new_full((1,), math.inf)])
        return torch.minimum(edges[at], self.maximum)

    def share_above(self, bound: Tensor) -> float:
        """The share of all values in the bins that begin at `bound` [rows] or above it."""
        above = (self.counts * (self._lower() >= bound.view(-1, 1))).sum()
        return above.item() / max(self.total * len(self.counts), 1)

    def _lower(self) -> Tensor:
        """The lower edge of every bin."""
        bits = (torch.arange(BINS, device=self.counts.device, dtype=torch.int32) + _BEFORE) << _SHIFT
        edges = bits.view(torch.float32).double()
        edges[0] = 0
        return edges


def bins(magnitude: Tensor) -> Tensor:
    """The bin of each magnitude, int32."""
    bits = magnitude.float().contiguous().view(torch.int32)
    return (bits >> _SHIFT).sub_(_BEFORE).clamp_(0, BINS - 1)
