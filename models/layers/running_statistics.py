"""BatchNorms whose running statistics stay as they are: for a while, or because their parameters are frozen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """The BatchNorms of `model` all of whose parameters are frozen (`requires_grad` false). In evaluation mode their
    outputs are those that the other layers were trained with, and their running statistics stay."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.affine]
    return [norm for norm in norms if not any(p.requires_grad for p in norm.parameters())]


@contextmanager
def kept_running_statistics(module: nn.Module) -> Iterator[None]:
    """Within: a BatchNorm below `module` in training mode leaves its running mean and variance as they are."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
