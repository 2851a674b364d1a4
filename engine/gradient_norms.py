"""Norms of the gradient, of the whole network and of each of its stages, in one pass over the gradients."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn


class GradientNorms:
    """`total, of_stages = norms()` after backward: 0-d, and [S] in the order of `norms.stages`.

    The total is that of `nn.utils.get_total_norm`, to the bit. Both stay on the device.
    """

    def __init__(self, model: nn.Module):
        stage_of = stage_names(model)
        self.stages = list(dict.fromkeys(stage_of.values()))
        self._members = [(p, self.stages.index(stage_of[name])) for name, p in model.named_parameters()]
        self._seen: list[int] = []
        self._index = torch.empty(0, dtype=torch.int64)

    def __call__(self) -> tuple[Tensor, Tensor]:
        found = [(p.grad, stage) for p, stage in self._members if p.grad is not None]
        if not found:
            return torch.zeros(()), torch.zeros(len(self.stages))
        norms = torch.stack(torch._foreach_norm([grad for grad, _ in found]))
        if (seen := [stage for _, stage in found]) != self._seen or self._index.device != norms.device:
            self._seen, self._index = seen, torch.tensor(seen, device=norms.device)
        squares = norms.new_zeros(len(self.stages)).index_add_(0, self._index, norms.square())
        return torch.linalg.vector_norm(norms), squares.sqrt()


def stage_names(model: nn.Module) -> dict[str, str]:
    """{parameter: its stage}: the part of the network, as `stem`, `dark3` or `neck_p4`, or `head`, `encoder`. A part
    with more than a third of all weights is divided into its own parts, as `stages.0`."""
    parts = {name: name.removeprefix("network.").split(".") for name, _ in model.named_parameters()}
    sizes: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        sizes[parts[name][0]] += parameter.numel()
    large = {part for part, size in sizes.items() if 3 * size > sizes.total()}
    return {name: ".".join(part[: 2 if part[0] in large and len(part) > 3 else 1]) for name, part in parts.items()}
