"""Frozen weights (`train.freeze`): parameters that keep the values they start with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from models.layers.running_statistics import frozen_norms
from models.parts import matching_parameters
from registry import UserError


def freeze(model: nn.Module, patterns: Sequence[str]) -> str:
    """Freeze the parameters of `model` that one of `patterns` matches, in place. Returns a line for the user.

    They get no gradient, so no step, no weight decay and, under DistributedDataParallel, no exchange. A BatchNorm all
    of whose parameters are frozen also keeps its running statistics, and uses them (`train_epoch`). UserError for a
    pattern that matches nothing, and if nothing is left to train.
    """
    names = {name for pattern in patterns for name in matching_parameters(model, pattern, "train.freeze")}
    sizes = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    for name, p in model.named_parameters():
        if name in names:
            p.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(f"train.freeze = {list(patterns)}: every parameter is frozen, so nothing is left to train")
    frozen = sum(size for name, size in sizes.items() if name in names)
    return (
        f"train.freeze: {frozen:,} of {sum(sizes.values()):,} parameters, statistics of {len(frozen_norms(model))} "
        "BatchNorms"
    )
