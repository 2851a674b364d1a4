"""Optimizer and learning-rate schedule of the YOLO family: three parameter groups, warm-up, cosine or linear decay."""

from __future__ import annotations

import math

import torch
from torch import nn

from registry import UserError


def build_optimizer(
    model: nn.Module, name: str, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW with `momentum` as beta1. Weight decay applies to weights of two or more
    axes (not to biases, BatchNorm gains or parameters of neurons)."""
    weights: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for key, p in model.named_parameters():
        if p.requires_grad:
            (biases if key.endswith("bias") else weights if p.dim() > 1 else others).append(p)
    groups = [
        {"params": weights, "weight_decay": weight_decay, "role": "weight"},
        {"params": others, "weight_decay": 0.0, "role": "other"},
        {"params": biases, "weight_decay": 0.0, "role": "bias"},
    ]
    groups = [g for g in groups if g["params"]]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999))
    raise UserError(f"optim.name must be sgd or adamw, got {name!r}")


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

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set learning rate and momentum for `step` (from 0). Returns the learning rate of the weights."""
        warm = min((step + 1) / max(self.warmup_steps, 1), 1.0)
        momentum = self.warmup_momentum + (self.momentum - self.warmup_momentum) * warm
        for group in optimizer.param_groups:
            group["lr"] = self.rate(step, group["role"])
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum
        return self.rate(step)
