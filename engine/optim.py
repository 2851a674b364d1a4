"""Optimizer and learning-rate schedule of the YOLO family: groups of parameters, warm-up, cosine or linear decay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from models.parts import matching_parameters
from registry import UserError

from .muon import Muon, hidden_weights

ROLES = ("hidden", "weight", "other", "bias")


def build_optimizer(
    model: nn.Module,
    name: str,
    lr: float,
    momentum: float,
    weight_decay: float,
    factors: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, AdamW with `momentum` as beta1, or `Muon` with AdamW. Weight decay applies to weights
    of two or more axes (not to biases, BatchNorm gains or parameters of neurons).

    factors: {pattern of names (`models.parts`): factor of the learning rate}; of several that match a name the last one
        counts.
    """
    pattern_of = {n: pattern for pattern in factors or {} for n in matching_parameters(model, pattern, "optim.groups")}
    hidden = {id(p) for p in hidden_weights(model)} if name == "muon" else set()
    members: dict[tuple[str, str], list[nn.Parameter]] = {}
    for key, p in model.named_parameters():
        if p.requires_grad:
            role = "bias" if key.endswith("bias") else "weight" if p.dim() > 1 else "other"
            role = "hidden" if id(p) in hidden else role
            members.setdefault((role, pattern_of.get(key, "")), []).append(p)
    groups: list[dict[str, Any]] = [
        {
            "params": members[role, pattern],
            "weight_decay": weight_decay if role in ("hidden", "weight") else 0.0,
            "role": role,
            "pattern": pattern,
            "factor": (factors or {}).get(pattern, 1.0),
        }
        for role in ROLES
        for pattern in ["", *(factors or {})]
        if (role, pattern) in members
    ]
    if name == "muon":
        return Muon(groups, lr, momentum)
    fused = all(p.is_cuda for p in model.parameters()) or None  # one kernel for all parameters of a group
    optimizer: torch.optim.Optimizer
    if name == "sgd":
        optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=fused)
    elif name == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999), fused=fused)
    else:
        raise UserError(f"optim.name must be sgd, adamw or muon, got {name!r}")
    optimizer.register_load_state_dict_pre_hook(_fused_as_built)
    return optimizer


def _fused_as_built(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of a GPU can be resumed on a CPU, and the other way round."""
    fused = optimizer.defaults["fused"]
    return {**state, "param_groups": [{**group, "fused": fused} for group in state["param_groups"]]}


def groups_text(optimizer: torch.optim.Optimizer) -> list[str]:
    """A line for each pattern of `optim.groups`: its parameters and their factor."""
    sizes: dict[tuple[str, float], int] = {}
    for group in optimizer.param_groups:
        if group["pattern"]:
            key = group["pattern"], group["factor"]
            sizes[key] = sizes.get(key, 0) + sum(p.numel() for p in group["params"])
    return [
        f"optim.groups: {size:,} parameters of {pattern} at {factor:g} of the learning rate"
        for (pattern, factor), size in sizes.items()
    ]


class Schedule:
    """Learning rate and momentum as a function of the step alone, so a resumed run needs no state.

    A cosine, or a line (`decay`), from `lr` to `lr * final_lr_factor` over `total_steps`. During the first
    `warmup_steps` the rate grows linearly from 0 and momentum from `warmup_momentum`; the rate of biases falls from
    `warmup_bias_lr` instead. Differs from the YOLOv5 family in following the decay at every step instead of every
    epoch, in a warm-up that is not stretched to 1000 steps, and in not ramping gradient accumulation with it.
    """

    def __init__(
        self,
        lr: float,
        final_lr_factor: float,
        momentum: float,
        total_steps: int,
        warmup_steps: int,
        warmup_bias_lr: float,
        warmup_momentum: float,
        decay: str = "cosine",
    ):
        if decay not in ("cosine", "linear"):
            raise UserError(f"optim.decay must be cosine or linear, got {decay!r}")
        self.lr, self.final_lr_factor, self.momentum = lr, final_lr_factor, momentum
        self.total_steps, self.warmup_steps = total_steps, warmup_steps
        self.warmup_bias_lr, self.warmup_momentum, self.decay = warmup_bias_lr, warmup_momentum, decay

    def rate(self, step: int, role: str = "weight") -> float:
        progress = min(step / max(self.total_steps, 1), 1.0)
        left = (1 + math.cos(math.pi * progress)) / 2 if self.decay == "cosine" else 1 - progress
        rate = self.lr * (self.final_lr_factor + (1 - self.final_lr_factor) * left)
        if step < self.warmup_steps:
            start = self.warmup_bias_lr if role == "bias" else 0.0
            rate = start + (rate - start) * (step + 1) / self.warmup_steps
        return rate

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> dict[str, float]:
        """Set learning rate and momentum for `step` (from 0). Returns the learning rates of the weights: "" for that
        of no pattern, and one for each pattern of `optim.groups`."""
        warm = min((step + 1) / max(self.warmup_steps, 1), 1.0)
        momentum = self.warmup_momentum + (self.momentum - self.warmup_momentum) * warm
        rates = {"": self.rate(step)}
        for group in optimizer.param_groups:
            factor = group.get("factor", 1.0)  # checkpoints of earlier versions have none
            group["lr"] = factor * self.rate(step, group["role"])
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum
            if factor != 1.0:
                rates[group["pattern"]] = factor * rates[""]
        return rates
