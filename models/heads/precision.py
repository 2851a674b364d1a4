"""Float32 for logits and losses under autocast."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32 if autocast made it float16 or bfloat16; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
