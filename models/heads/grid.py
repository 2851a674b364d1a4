"""The cells of a feature map, which every head places its predictions by."""

from __future__ import annotations

import torch
from torch import Tensor


def cells(height: int, width: int, device: torch.device) -> Tensor:
    """[height, width, 2] float32: (column, row) of every cell."""
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack([columns, rows], -1).float()
