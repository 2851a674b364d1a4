"""Which algorithms torch uses in a training: repeatable ones on a CPU, the fastest on a GPU."""

from __future__ import annotations

import torch


def choose_algorithms(device: torch.device, one_size: bool) -> None:
    """On a CPU a training gives the same numbers each time. On a GPU cuDNN tries its algorithms for each shape of input
    and keeps the fastest, if images come in `one_size`; sums may then differ in the last digits.

    Differs from `torch.use_deterministic_algorithms` alone, which also fills new memory with NaN before it is written:
    up to 8 % of a step, to the same results.
    """
    torch.use_deterministic_algorithms(device.type == "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = device.type == "cuda" and one_size
