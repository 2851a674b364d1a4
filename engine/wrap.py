"""Wrap a model for training: packed spikes, activation checkpointing, torch.compile of each block, DDP.

In this order, as in torchtitan. The model's code and parameter names do not change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint as recomputed

from models.layers.running_statistics import kept_running_statistics
from models.parts import matching
from neurons import StatefulNeuron

from .distributed import world_size
from .packed_spikes import pack_spikes

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass
class Execution:
    """How the model runs in training. precision: see `precision.autocast`. checkpoint, compile, pack: see `wrap`."""

    device: torch.device
    precision: str = "fp32"
    checkpoint: bool | list[str] = False
    compile: bool = False
    pack: bool = False


def wrap(
    model: nn.Module, checkpoint: bool | Sequence[str], compile: bool, device: torch.device, pack: bool = False
) -> nn.Module:
    """The module to call in training: `model` itself, changed in place, or, with several processes, wrapped in DDP.

    checkpoint: keep only the input of each block of `model.network` for backward, which runs the block again (Chen et
        al., "Training Deep Nets with Sublinear Memory Cost", 2016). Losses, gradients and BatchNorm statistics are
        the same; membranes that a `neurons.Stream` carries are those of the first run. Patterns (`models.parts`)
        select blocks; UserError for one that selects none.
    compile: `torch.compile` each block at its first call, one compilation for each shape of its input; results agree up
        to rounding. Call after weights are copied, for one: a copy of the model is not compiled.
    device: that the model is on.
    pack: keep the spikes that convolutions read as bits (`packed_spikes`); not with `compile`, which does not see it.
    """
    keep_less(model, checkpoint, pack)
    if compile:
        found = list(blocks(getattr(model, "network", model)))
        # PyTorch counts the recompilations of all instances of a class together, here one for each block and mode.
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, 8 * len(found))
        torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True  # membranes: updated once
        for block in found:
            block.compile(dynamic=False)
    if world_size() > 1:
        return DistributedDataParallel(model, [device] if device.type == "cuda" else None)
    return model


def keep_less(model: nn.Module, checkpoint: bool | Sequence[str], pack: bool) -> None:
    """Change `model` in place, so that less is kept for backward: arguments as those of `wrap`."""
    found = list(blocks(getattr(model, "network", model)))
    if pack:
        pack_spikes(model)
    if checkpoint:
        for block in found if checkpoint is True else _selected(model, found, checkpoint):
            block.forward = Checkpointed(block)


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The children of `network`, with the children of containers instead of the containers."""
    for child in network.children():
        if isinstance(child, CONTAINERS):
            yield from blocks(child)
        else:
            yield child


def _selected(model: nn.Module, found: list[nn.Module], patterns: Sequence[str]) -> list[nn.Module]:
    names = {name: module for name, module in model.named_modules() if module in found}
    chosen = [matching(model, list(names), pattern, "train.checkpoint", "block") for pattern in patterns]
    return [names[name] for name in dict.fromkeys(sum(chosen, []))]


class Checkpointed:
    """A block's `forward` that keeps its inputs alone for backward, and runs a second time there."""

    def __init__(self, block: nn.Module):
        self.block = block

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        forward = partial(type(self.block).forward, self.block)
        if not torch.is_grad_enabled():
            return forward(*inputs, **kwargs)
        if torch.compiler.is_compiling():  # recomputation is part of the compiled graph, which updates state once
            return recomputed(forward, *inputs, use_reentrant=False, **kwargs)
        state = partial(_first_and_second_run, self.block)
        return recomputed(forward, *inputs, use_reentrant=False, context_fn=state, **kwargs)


def _first_and_second_run(block: nn.Module) -> tuple[Any, Any]:
    carried = {m: m.carried for m in block.modules() if isinstance(m, StatefulNeuron) and m.stream is not None}
    return nullcontext(), _second_run(block, carried)


@contextmanager
def _second_run(block: nn.Module, carried: dict[StatefulNeuron, Any]) -> Iterator[None]:
    """Within: neurons start from what they carried at the first run, and BatchNorm changes no running statistics."""
    now = {neuron: neuron.carried for neuron in carried}
    try:
        for neuron, membrane in carried.items():
            neuron.carried = membrane
        with kept_running_statistics(block):
            yield
    finally:
        for neuron, membrane in now.items():
            neuron.carried = membrane
