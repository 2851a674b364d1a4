"""What one batch does to each neuron layer in training: its shares in and outside the window, and its gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from models import Detector
from models.layers.step_weights import StepWeights
from models.layers.watch import watch
from models.samplers.base import Sampler
from neurons import MultiStepNeuron

from .saturation import Saturation

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def training_statistics(
    model: Detector, x: Tensor, targets: Sequence[dict[str, Tensor] | None]
) -> dict[str, dict[str, float]]:
    """{neuron layer: {"gradient": norm of the gradient of its convolution's weights, and the shares of `Saturation` of
    a neuron that has a window}}, in the order of the calls, of neurons with a convolution of their own, but not of the
    samplers of events.

    One forward and backward pass in training mode, which changes BatchNorm's statistics and the gradients of `model`.
    """
    called: list[str] = []
    sampled = {m for sampler in model.modules() if isinstance(sampler, Sampler) for m in sampler.modules()}
    found = {n: m for n, m in model.named_modules() if isinstance(m, (MultiStepNeuron, *CONVOLUTIONS))}
    layers: dict[nn.Module, str] = {
        m: n for n, m in found.items() if m not in sampled and not isinstance(m, StepWeights)
    }
    model.train().zero_grad(set_to_none=True)
    with Saturation(model) as saturation, watch(layers, lambda layer, x, y: called.append(layers[layer])):
        losses = model(x, targets)
    assert isinstance(losses, dict)
    torch.stack(list(losses.values())).sum().backward()
    shares, modules = saturation.shares(), {name: module for module, name in layers.items()}
    neurons = {name for name in called if isinstance(modules[name], MultiStepNeuron)}
    statistics = {}
    for neuron, convolutions in own_convolutions(called, neurons).items():
        weights = [modules[name].weight for name in convolutions]
        norms = [float(w.grad.norm()) for w in weights if isinstance(w, Tensor) and w.grad is not None]
        if norms:
            statistics[neuron] = {"gradient": math.hypot(*norms), **shares.get(neuron, {})}
    return statistics


def own_convolutions(called: Sequence[str], neurons: set[str]) -> dict[str, list[str]]:
    """{neuron: names of its convolutions} by the names of neurons and convolutions in the order of their calls.

    A block with one neuron and convolutions: these. Of several neurons in a block each has the convolutions of the
    block that run between it and the next neuron, or, if there are none, the last one before it.
    """
    order = list(dict.fromkeys(called))
    found: dict[str, list[str]] = {}
    for place, neuron in enumerate(order):
        block = neuron if neuron in neurons else ""
        while block:
            block = block.rpartition(".")[0]
            inside = [name for name in order if name.startswith(f"{block}.")]
            if convolutions := [name for name in inside if name not in neurons]:
                break
        else:
            continue
        if sum(name in neurons for name in inside) > 1:
            after = next((i for i in range(place + 1, len(order)) if order[i] in neurons), len(order))
            between = [name for name in order[place:after] if name in convolutions]
            before = [name for name in order[:place] if name in convolutions]
            convolutions = between or before[-1:]
        if convolutions:
            found[neuron] = convolutions
    return found


def ratios(ours: Mapping[str, Mapping[str, float]], theirs: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """{layer: gradient norm of one network / that of another}, of layers that both have."""
    return {
        layer: row["gradient"] / theirs[layer]["gradient"]
        for layer, row in ours.items()
        if theirs.get(layer, {}).get("gradient")
    }
