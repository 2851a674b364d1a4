"""Run a graph of NIR step by step, independently of the network that it was made of."""

from __future__ import annotations

from collections.abc import Callable
from graphlib import TopologicalSorter
from typing import NamedTuple

import nir
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from registry import UserError

from ..detector import Detector
from ..layers.watch import watch


@torch.no_grad()
def replay(graph: nir.NIRGraph, x: Tensor, dt: float | None = None) -> dict[str, Tensor]:
    """{name: values [T, B, ...]} of all neurons and outputs of a graph without cycles, for an input x [T, B, C, H, W].

    Neurons by Euler's method with steps of `dt` seconds (default: `metadata["dt"]`), from v = 0:

        LIF   v <- v + dt / tau (v_leak - v + r I)        z = [v > v_threshold],  v <- v_reset where z
        IF    v <- v + dt r I                             the same

    Computed in the precision of x. UserError for a node it does not know.
    """
    dt = float(graph.metadata["dt"]) if dt is None else dt
    before: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        before[target].append(source)
    values: dict[str, Tensor] = {}
    for name in TopologicalSorter(before).static_order():
        inputs = [values[source] for source in before[name]]
        values[name] = _run(name, graph.nodes[name], sum(inputs[1:], inputs[0]) if inputs else x, dt)
    wanted = (nir.LIF, nir.IF, nir.Output)
    return {name: values[name] for name, node in graph.nodes.items() if isinstance(node, wanted)}


def _run(name: str, node: nir.NIRNode, x: Tensor, dt: float) -> Tensor:
    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(array)).to(x)

    def pair(value: np.ndarray) -> list[int]:
        return np.broadcast_to(value, 2).tolist()

    def per_step(y: Tensor) -> Tensor:
        return y.unflatten(0, x.shape[:2])

    match node:
        case nir.Input() | nir.Output():
            return x
        case nir.LIF():
            rate = dt / tensor(node.tau)
            return _integrate(
                node, x, lambda v, current: v + rate * (tensor(node.v_leak) - v + tensor(node.r) * current)
            )
        case nir.IF():
            return _integrate(node, x, lambda v, current: v + dt * tensor(node.r) * current)
        case nir.Threshold():
            return (x > tensor(node.threshold)).to(x)
        case nir.Scale():
            return x * tensor(node.scale)
        case nir.Conv2d():
            window = pair(node.stride), pair(node.padding), pair(node.dilation), int(node.groups)
            return per_step(F.conv2d(x.flatten(0, 1), tensor(node.weight), tensor(node.bias), *window))
        case nir.AvgPool2d() | nir.SumPool2d():
            kernel = pair(node.kernel_size)
            mean = F.avg_pool2d(x.flatten(0, 1), kernel, pair(node.stride), pair(node.padding))
            return per_step(mean if isinstance(node, nir.AvgPool2d) else mean * kernel[0] * kernel[1])
    raise UserError(f"{name}: a {type(node).__name__} is not replayed here")


def _integrate(node: nir.LIF | nir.IF, x: Tensor, step: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    threshold, reset = (torch.as_tensor(np.asarray(a)).to(x) for a in (node.v_threshold, node.v_reset))
    v, spikes = torch.zeros_like(x[0]), []
    for current in x:
        v = step(v, current)
        fired = v > threshold
        v = torch.where(fired, reset, v)
        spikes.append(fired.to(x))
    return torch.stack(spikes)


class Agreement(NamedTuple):
    """Of a graph with its network: layers compared, their spikes, and values (0 or 1) that differ.

    first: the first layer with a difference, or None.
    """

    layers: int
    spikes: int
    different: int
    first: str | None


@torch.no_grad()
def compare_spikes(model: Detector, graph: nir.NIRGraph, x: Tensor) -> Agreement:
    """Spike by spike, of all neurons of `graph`, on x [T, B, C, H, W], in the precision of x and of the model."""
    replayed = replay(graph, x)
    names: dict[torch.nn.Module, str] = {module: name for name, module in model.spiking_layers().items()}
    seen: dict[str, int] = {}
    layers, spikes, different, first = 0, 0, 0, None

    def see(layer: torch.nn.Module, inputs: Tensor, y: Tensor) -> None:
        nonlocal layers, spikes, different, first
        name = names[layer]
        seen[name] = call = seen.get(name, 0) + 1
        name = name if call == 1 else f"{name}:{call}"  # of a layer that runs several times, as in the graph
        if name not in replayed:
            return
        layers, spikes = layers + 1, spikes + int(y.sum())
        if wrong := int((y != replayed[name]).sum()):
            different, first = different + wrong, first or name

    with watch(names, see):
        model.logits(x)
    return Agreement(layers, spikes, different, first)
