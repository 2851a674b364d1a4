"""Muon for the hidden layers of a detector, AdamW for everything else (`optim.name=muon`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from models.contracts import ReadsOut
from registry import UserError

Base: Any = getattr(torch.optim, "Muon", torch.optim.Optimizer)  # torch 2.8 has none


def hidden_weights(model: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon steps, as its authors recommend: of convolutions and linear layers, but for the first of
    the network, those that give the logits, and those of the encoder. Grouped convolutions are left out, too: the rows
    of a depthwise weight are filters of separate channels, no linear map between channels."""
    head: Any = getattr(model, "head", None)
    outputs = head.readouts() if isinstance(head, ReadsOut) else []
    others = [part for part in (getattr(model, "memory", None), head if outputs else None) if part is not None]
    layers = _layers(getattr(model, "network", model))[1:] + [m for part in others for m in _layers(part)]
    return [m.weight for m in layers if m not in outputs and getattr(m, "groups", 1) == 1]


def _layers(part: nn.Module) -> list[Any]:
    return [m for m in part.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


class Muon(Base):
    """`torch.optim.Muon` (Jordan et al., 2024) of the groups with the role "hidden", AdamW of the others.

    A weight of a convolution [o, i, h, w] is one matrix [o, i * h * w], as in the authors' code; torch's class takes
    matrices alone. The orthogonalised step of a matrix [a, b] is scaled by 0.2 sqrt(max(a, b)), so that its root mean
    square is that of an AdamW step, and one learning rate and weight decay fit both (Liu et al., "Muon Is Scalable for
    LLM Training", 2025, eq. 4).

    groups: dicts of `params`, `role`, `weight_decay`. momentum: of Muon, and beta1 of AdamW. UserError where torch has
    no Muon.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float):
        if Base is torch.optim.Optimizer:
            raise UserError(
                f"optim.name = 'muon': needs torch 2.9 or later, which has torch.optim.Muon; this is torch "
                f"{torch.__version__}. Give sgd or adamw"
            )
        hidden = [group for group in groups if group["role"] == "hidden"]
        others = [group for group in groups if group["role"] != "hidden"]
        super().__init__([torch.zeros(1, 1)], lr=lr, momentum=momentum, adjust_lr_fn="match_rms_adamw")
        self.param_groups.clear()
        self.adamw = torch.optim.AdamW(others, lr=lr, betas=(momentum, 0.999))
        for group in [*hidden, *self.adamw.param_groups]:
            self.add_param_group(group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = super().step(closure)
        # After a checkpoint is loaded, state and groups are new objects.
        self.adamw.state, self.adamw.param_groups = self.state, [g for g in self.param_groups if g["role"] != "hidden"]
        self.adamw.step()
        return loss

    def _init_group(self, group: Any, weights: list[Tensor], gradients: list[Tensor], momenta: list[Tensor]) -> bool:
        """Add the matrices of a group to those that torch's class steps in place."""
        for p in group["params"] if group["role"] == "hidden" else []:
            if p.grad is None:
                continue
            state = self.state[p]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(p)
            if state["momentum_buffer"].stride() != p.stride():  # of a run with another train.channels_last
                state["momentum_buffer"] = torch.empty_like(p).copy_(state["momentum_buffer"])
            channels_last = p.dim() == 4 and not p.is_contiguous()
            for tensor, matrices in ((p, weights), (p.grad, gradients), (state["momentum_buffer"], momenta)):
                matrix = tensor.permute(0, 2, 3, 1) if channels_last else tensor
                matrices.append(matrix.flatten(1) if tensor is p.grad else matrix.view(len(matrix), -1))
        return False
