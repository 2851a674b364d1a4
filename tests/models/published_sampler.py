"""Slow reference of EAS-SNN's event embeddings, pixel by pixel state kept in lists, on a published state dict.

Written from the equations of the published code and sharing nothing with `models/`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Rectangle(torch.autograd.Function):
    """[x > 0], with a gradient of 1 where |x| < 0.5."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x)

    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0].abs() < 0.5)


def stack(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Convolutions name.0, name.2, ... with ReLU between them."""
    index = 0
    while f"{name}.{index}.weight" in state:
        w = state[f"{name}.{index}.weight"]
        x = F.conv2d(x.relu() if index else x, w, state[f"{name}.{index}.bias"], padding=w.shape[-1] // 2)
        index += 2
    return x


def recurrence(state: dict[str, Tensor], bins: list[Tensor], inputs: str):
    """Yields (u, s, v) of each bin: u = sigmoid(gate) v + current, s = [u > 1], v = u (1 - s)."""
    v = s = torch.zeros_like(bins[0])
    for f in bins:
        gate, current = (stack(state, inputs, f) + stack(state, "gate_conv", s)).chunk(2, 1)
        u = torch.sigmoid(gate) * v + current
        s = Rectangle.apply(u - 1)
        v = u * (1 - s)
        yield u, s, v


def arsnn(
    state: dict[str, Tensor],
    x: Tensor,
    slots: int = 1,
    rpd: bool = True,
    sat: bool = True,
    readout: str = "sum",
    reverse: bool = True,
) -> Tensor:
    """Micro-bins [N, Tm, C, H, W] -> frames [slots, N, C, H, W]. state: names without "embedding."."""
    bins = list(x.unbind(1))
    if reverse:
        bins.reverse()
    frames = [torch.zeros_like(bins[0]) for _ in range(slots)]
    filled = torch.zeros_like(bins[0], dtype=torch.int64)
    last = -torch.ones_like(bins[0])
    a = torch.zeros_like(bins[0])
    s, value = a, a
    for t, (u, s, v) in enumerate(recurrence(state, bins, "input_conv")):
        fires = s.detach() == 1
        a = a + u
        value = {"sum": a, "last": v, "avg": a / (t - last)}[readout]
        written = value * s if sat else value
        for k in range(slots):
            frames[k] = torch.where(fires & (filled == k), written, frames[k])
        last = torch.where(fires & (filled < slots), torch.full_like(last, t), last)
        filled = filled + fires
        a = torch.where(fires, torch.zeros_like(a), a)
        if bool((filled >= slots).all()):
            break
    for k in range(slots):
        open_ = (s.detach() == 0) & (filled == k)
        frames[k] = torch.where(open_, value * (0.0 if rpd else 1.0), frames[k])
    return torch.stack(frames)


def rsnn(state: dict[str, Tensor], x: Tensor, reverse: bool = True) -> Tensor:
    """The same recurrence without sampling: the sum of u. [N, Tm, C, H, W] -> [1, N, C, H, W]."""
    bins = list(x.unbind(1))
    if reverse:
        bins.reverse()
    return sum(u for u, _, _ in recurrence(state, bins, "input_conv.layer"))[None]


def snn(state: dict[str, Tensor], x: Tensor, reverse: bool = True) -> Tensor:
    """u = sigmoid(decay) v + current, the sum of u."""
    bins = list(x.unbind(1))
    if reverse:
        bins.reverse()
    total = v = torch.zeros_like(bins[0])
    for f in bins:
        u = torch.sigmoid(state["cell.decay"]) * v + stack(state, "embedding_conv.layer", f)
        s = Rectangle.apply(u - 1)
        v = u * (1 - s)
        total = total + u
    return total[None]


def count(state: dict[str, Tensor], x: Tensor) -> Tensor:
    return x.sum(1)[None]
