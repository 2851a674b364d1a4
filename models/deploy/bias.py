"""Bias calibration: correct the mean error that a converted network has at a given number of steps, layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from neurons.signed_if import SignedIF
from registry import UserError, none_of

from ..detector import Detector
from ..layers.time import repeat_over_time
from ..layers.watch import watch
from .calibrate import by_channel, model_input
from .converted import ConvertedDetector, ConvertedNetwork
from .graph import activations, readouts, trace


@torch.no_grad()
def calibrate_bias(snn: ConvertedDetector, model: Detector, batches: Iterable[Tensor], steps: int) -> ConvertedDetector:
    """A copy of `snn` whose neurons get one more constant current, so that its layers agree with the ANN on average.

    For each layer, in the order they run, with the layers before it corrected already, and each channel,

        b = mean over images and positions of (clip(a / lam, 0, 1) - rate at T = steps)

    where a is the activation of the ANN; the clip is at -1 for signed neurons. Li et al., "A Free Lunch from ANN", ICML
    2021, light pipeline. Differs from the paper in the clip: activations above lam are few, and a constant current for
    what they lose would act at all positions.

    It corrects for charge that has not become spikes by T, and for spikes that came too early, so it is right for T =
    steps alone, and an error at much larger T; `calibrated_at` of the result says which T that is. All steps of a
    layer run before the next layer, at the cost of one simulation in all. The memory is that of one layer, at all
    steps of all images: give tens of images.

    Args:
        snn: made by `convert`; not changed.
        model: the ANN that it was made of; not changed.
        batches: inputs of the model, all of one size.
        steps: T.
    """
    if steps < 1:
        raise UserError(f"steps = {steps}: give the number of steps that the network will be used at, 1 or more")
    if snn.calibrated_at is not None:
        raise UserError(f"this network is calibrated at T = {snn.calibrated_at}: give the one that `convert` returned")
    inputs = list(batches)
    if not inputs:
        raise UserError("batches: no images to calibrate on; give at least one batch of the model's inputs")
    if len(sizes := {tuple(x.shape[-2:]) for x in inputs}) > 1:
        raise UserError(f"batches: images of the sizes {sorted(sizes)}; give images of one size")
    network = snn.network
    assert isinstance(network, ConvertedNetwork)
    run = _Correction(network.spiking, _mean_rates(snn, model, inputs))
    run.run(*network.currents(_encoded(snn, torch.cat(inputs, dim=-4), steps)))
    return add_bias(snn, run.bias, steps)


def add_bias(snn: ConvertedDetector, bias: Mapping[str, Tensor], steps: int) -> ConvertedDetector:
    """A copy of `snn` with the currents {layer: [C]}, that `calibrate_bias` found for T = `steps`, into its neurons.

    `bias` of a calibrated network holds them, so that they can be saved, and added to the same conversion made again.
    """
    corrected = copy.deepcopy(snn)
    assert isinstance(corrected.network, ConvertedNetwork)
    spiking, layers = corrected.network.spiking, corrected.spiking_layers()
    nodes = {str(node.target): node for node in spiking.graph.nodes}
    weight = next(snn.parameters())
    for name, value in bias.items():
        if name not in layers:
            raise UserError(none_of(f"bias of layer {name!r}, which this network does not have", name, layers))
        lam = snn.scales[name.removesuffix(":neuron")]
        if value.ndim != 1 or len(lam) not in (1, len(value)) or not value.isfinite().all():
            raise UserError(f"bias of layer {name}: {list(value.shape)}; give one finite number for each channel")
        (x,) = nodes[name].all_input_nodes
        spiking.add_submodule(f"{name}:bias", Bias(value.to(weight)))
        with spiking.graph.inserting_before(nodes[name]):
            nodes[name].replace_input_with(x, spiking.graph.call_module(f"{name}:bias", (x,)))
    spiking.graph.lint()
    spiking.recompile()
    corrected.bias, corrected.calibrated_at = dict(bias), steps
    return corrected


class Bias(nn.Module):
    """x [..., C, H, W] + bias [C]."""

    bias: Tensor

    def __init__(self, bias: Tensor):
        super().__init__()
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.view(-1, 1, 1)


class _Correction(fx.Interpreter):
    """Runs the spiking part of a network node by node, each for all steps, and corrects a layer before the next runs.

    target: {layer: mean rate [C]};  bias, after `run`: {layer: correction [C]}
    """

    def __init__(self, graph: fx.GraphModule, target: Mapping[str, Tensor]):
        super().__init__(graph)
        self.target = target
        self.bias: dict[str, Tensor] = {}

    def call_module(self, name: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        y = super().call_module(name, args, kwargs)
        if name not in self.target:
            return y
        self.bias[name] = (self.target[name] - by_channel(y).double().mean((0, 2))).to(y.dtype)
        return super().call_module(name, (Bias(self.bias[name])(args[0]),), kwargs)


def _mean_rates(snn: ConvertedDetector, model: Detector, batches: list[Tensor]) -> dict[str, Tensor]:
    """{layer of neurons of `snn`: mean of the ANN's activation / lam, clipped to what they can emit, [C]}."""
    source = copy.deepcopy(model).eval()
    graph = trace(source)
    layers = activations(graph) | readouts(graph)
    neurons = {name.removesuffix(":neuron"): (name, m) for name, m in snn.spiking_layers().items()}
    watched = {layers[source_name]: source_name for source_name in neurons}
    sums: dict[str, Tensor] = {}
    values: dict[str, int] = {}

    def add(layer: nn.Module, x: Tensor, y: Tensor) -> None:
        name, neuron = neurons[watched[layer]]
        lam = snn.scales[watched[layer]].to(y.device, torch.float64).view(-1, 1)
        rates = (by_channel(y) / lam).clamp(-1 if isinstance(neuron, SignedIF) else 0, 1)
        sums[name] = sums.get(name, 0) + rates.sum((0, 2))
        values[name] = values.get(name, 0) + rates[:, 0].numel()

    with watch(watched, add):
        for x in batches:
            graph(model_input(source, x))
    return {name: total / values[name] for name, total in sums.items()}


def _encoded(snn: ConvertedDetector, x: Tensor, steps: int) -> Tensor:
    """The first steps of the code of x, [steps, B, C, H, W]."""
    if snn.constant_input(x):
        return repeat_over_time(snn.encode_step(x, 0)[0], steps)
    return torch.cat([snn.encode_step(x, t) for t in range(steps)])
