"""Spikes as bits: 1 for binary ones, 2 for ternary ones, 4 or 8 for small integers; packed and unpacked exactly."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WORDS = {1: torch.int64, 2: torch.int32, 4: torch.int16, 8: torch.uint8}  # 8 / bits bytes


def bits_for(low: int, high: int) -> int | None:
    """Bits per value of integers from `low` to `high`: 1, 2, 4 or 8; None where these are too few."""
    return next((bits for bits in WORDS if high - low < 1 << bits), None)


def pack(x: Tensor, low: int, bits: int) -> Tensor:
    """Integers `low` to `low` + 2^bits - 1 of any dtype, [M] -> uint8 [ceil(M bits / 8)]. The first value of a byte is
    in its lowest bits. Other values give other bits."""
    values = (x - low if low else x).to(torch.uint8)
    if bits == 8:
        return values
    per_byte = 8 // bits
    if missing := -values.numel() % per_byte:
        values = F.pad(values, (0, missing))
    # One word holds the values of one byte, each in the lowest bits of its own byte; they move to its first byte in
    # steps that halve their number: (v0), (v1) -> (v0 | v1 << bits), ... What is left above is cut off.
    words = values.view(WORDS[bits])
    for step in range(per_byte.bit_length() - 1):
        words = words | words >> ((8 - bits) << step)
    return words.to(torch.uint8)


def unpack(packed: Tensor, size: int, low: int, bits: int, dtype: torch.dtype) -> Tensor:
    """The values of `pack`, [size] in `dtype`."""
    if bits == 8:
        return packed.to(dtype) + low if low else packed.to(dtype)
    return F.embedding(packed.int(), _table(low, bits, dtype, packed.device)).flatten()[:size]


def _table(low: int, bits: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The values in each byte, [256, 8 / bits]."""
    byte = torch.arange(256, device=device)
    shifts = torch.arange(0, 8, bits, device=device)
    return ((byte[:, None] >> shifts & (1 << bits) - 1) + low).to(dtype)
