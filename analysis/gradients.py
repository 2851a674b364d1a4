"""What one batch does to each neuron layer in training: its shares in and outside the window, and its gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import Detector
from models.layers.step_weights import StepWeights
from models.layers.watch import watch
from models.samplers.base import Sampler
from neurons import MultiStepNeuron

from .saturation import Saturation
from .unrounded import unrounded

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def training_statistics(
    model: Detector, x: Tensor, targets: Sequence[dict[str, Tensor] | None]
) -> dict[str, dict[str, float]]:
    """Of one forward and backward pass in training mode, {neuron layer: its numbers} in the order of the calls, of
    neurons with a convolution of their own, but not of the samplers of events:

        gradient    norm of the gradient of the weights of its convolutions
        direction   of a network with `ilif` neurons: cosine of that gradient and the one that the same weights have
                    without rounding (`unrounded`), which is exact. 1: rounding changes the gradient in length alone
        and the shares of `Saturation`, of a neuron that has a window

    It changes BatchNorm's statistics and the gradients of `model`.
    """
    called: list[str] = []
    layers, smooth = _neurons_and_convolutions(model), unrounded(model)
    with Saturation(model) as saturation, watch(layers, lambda layer, x, y: called.append(layers[layer])):
        gradients = _gradients(model, x, targets)
    of_smooth = {} if smooth is None else _gradients(smooth, x, targets)
    shares, names = saturation.shares(), {name: layer for layer, name in layers.items()}
    neurons = {name for name in called if isinstance(names[name], MultiStepNeuron)}
    statistics = {}
    for neuron, convolutions in own_convolutions(called, neurons).items():
        own = [f"{name}.weight" for name in convolutions if f"{name}.weight" in gradients]
        if not own:
            continue
        ours = torch.cat([gradients[name] for name in own])
        statistics[neuron] = {"gradient": float(ours.norm()), **shares.get(neuron, {})}
        if all(name in of_smooth for name in own):
            exact = torch.cat([of_smooth[name] for name in own])
            if ours.any() and exact.any():
                statistics[neuron]["direction"] = float(F.cosine_similarity(ours, exact, 0))
    return statistics


def _neurons_and_convolutions(model: Detector) -> dict[nn.Module, str]:
    sampled = {m for sampler in model.modules() if isinstance(sampler, Sampler) for m in sampler.modules()}
    found = {n: m for n, m in model.named_modules() if isinstance(m, (MultiStepNeuron, *CONVOLUTIONS))}
    return {m: n for n, m in found.items() if m not in sampled and not isinstance(m, StepWeights)}


def _gradients(model: Detector, x: Tensor, targets: Sequence[dict[str, Tensor] | None]) -> dict[str, Tensor]:
    """{parameter: its gradient [N]} of the losses of a batch in training mode."""
    model.train().zero_grad(set_to_none=True)
    losses = model(x, targets)
    assert isinstance(losses, dict)
    torch.stack(list(losses.values())).sum().backward()
    return {name: p.grad.flatten() for name, p in model.named_parameters() if p.grad is not None}


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
