"""The precision of logits and losses."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32 whatever autocast made of it; in float64 where the network computes in that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
