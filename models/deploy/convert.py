"""Convert a trained ANN detector into a spiking one."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from neurons import build_neuron
from neurons.qcfs import QCFS
from neurons.sth import STH
from registry import UserError, none_of

from ..contracts import Encoder
from ..detector import Detector
from ..encoders import DirectEncoder, StepEncoder
from .converted import ConvertedDetector
from .graph import PerStep, insert, layer_of, nodes_of, readouts
from .normalise import ChannelScale, normalise
from .packed_conv import PackedConv2d
from .pool import AccumulatedMaxPool, GatedMaxPool
from .scaled_conv import scaled_conv

NEURONS = {
    "if": "integrate-and-fire, soft reset: the negative part of an activation is dropped",
    "signed_if": "and a negative spike at -1/slope: the imbalanced threshold of Spiking-YOLO, a double threshold",
    "symmetric": "a negative spike at -1, whatever the slope",
    "corrected_if": "if, and a late negative spike takes back a premature positive one",
}
POOLS = {"gated": GatedMaxPool, "accumulated": AccumulatedMaxPool}
DECODE = ("v_mem", "spike_count")


def convert(
    model: Detector,
    scales: Mapping[str, Tensor],
    neuron: str | None = None,
    v_init: float | None = None,
    decode: str = "v_mem",
    encoder: Encoder | None = None,
    T: int = 256,
    pool: str = "gated",
    leak: float = 1.0,
) -> ConvertedDetector:
    """A spiking detector with the weights of `model`, which is not changed.

    BatchNorm is folded and weights are normalised by `scales`, so that every threshold is 1 and every spike 1 or -1.
    As T grows, the rate of a layer times lam approaches the source's activation, clipped at lam.

    Args:
        model: a trained ANN: any detector whose neurons are relu, leaky_relu, qcfs or sth.
        scales: {layer name: lam [C]}, from `calibrate` or by hand.
        neuron: None: what each activation asks for, `if` for relu and qcfs, `signed_if` with its slope for leaky_relu
            and sth. Or one of `if`, `signed_if`, `symmetric`, `corrected_if` for all.
        v_init: potential before the first step, as a share of the threshold. None: 1/2 for qcfs (Bu et al., ICLR 2022:
            then the rate over T = L steps of constant input equals the activation), else 0.
        decode: `v_mem`: logits are the currents into neurons that do not fire, averaged over T. `spike_count`: these
            neurons fire, +1 and -1, and logits are their rates times lam; needs scales of the read-outs
            (`calibrate(..., readout=True)`).
        encoder: of images; default: that of `model`, which shows an image, or the frame of a learned sampler, T times
            as a constant current; of a code of images direct coding instead.
        T: steps of `snn(x)`, where the encoder is the default.
        pool: max pooling of spikes: `gated` (`GatedMaxPool`) or `accumulated` (`AccumulatedMaxPool`).
        leak: gamma of the read-out potential m(t) = gamma m(t-1) + y(t), divided by the sum of its weights: 1, no leak,
            is exact for rates; the classifiers of the double-threshold paper have a leak, without its value.

    UserError naming the first layer that does not convert, or a wrong scale.
    """
    if neuron is not None and neuron not in NEURONS:
        raise UserError(none_of(f"neuron = {neuron!r}, which is no neuron of a conversion", neuron, NEURONS))
    if pool not in POOLS:
        raise UserError(none_of(f"pool = {pool!r}", pool, POOLS))
    if decode not in DECODE:
        raise UserError(none_of(f"decode = {decode!r}", decode, DECODE))
    if not 0 < leak <= 1:
        raise UserError(f"leak = {leak}: give a factor above 0 and at most 1, which is no leak")
    if not isinstance(model, Detector):
        raise UserError(f"convert takes a Detector, got {type(model).__name__}: build one of the network and a head")
    encoder = _own_encoder(model.encoder, T) if encoder is None else encoder
    graph = normalise(model, scales, getattr(encoder, "input_scale", 1.0))
    for node in nodes_of(graph, "activation"):
        graph.add_submodule(str(node.target), _spiking(str(node.target), layer_of(graph, node), neuron, v_init))
    for node in nodes_of(graph, "convolution"):
        if isinstance(conv := layer_of(graph, node), nn.Conv2d):
            graph.add_submodule(str(node.target), PerStep(PackedConv2d(conv)))
    _convert_pools(graph, pool)
    if decode == "spike_count":
        _count_spikes(graph, scales)
    for node in nodes_of(graph, "mean"):
        _weigh_steps(graph, node, leak)
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
    return ConvertedDetector(graph, model.head, encoder, scales, leak)


def _own_encoder(encoder: Encoder, T: int) -> Encoder:
    if isinstance(encoder, StepEncoder):
        return DirectEncoder(T)
    encoder = copy.deepcopy(encoder)
    encoder.T = T
    return encoder


def _spiking(where: str, layer: nn.Module, name: str | None, v_init: float | None) -> nn.Module:
    """The neuron in place of an activation of the normalised network."""
    slope = layer.dynamics.slope if isinstance(layer, STH) else getattr(layer, "negative_slope", 0.0)
    name = name or ("signed_if" if slope else "if")
    if v_init is None:
        v_init = 0.5 if isinstance(layer, QCFS) else 0.0
    if name == "signed_if":
        if not slope:
            raise UserError(
                f"neuron = 'signed_if': {where} is {type(layer).__name__}, which has no negative part: give 'if'"
            )
        return build_neuron(name, negative_slope=slope, v_init=v_init)
    if name == "symmetric":
        return build_neuron("signed_if", negative_slope=1.0, v_init=v_init)
    return build_neuron(name, v_init=v_init)


def _convert_pools(graph: fx.GraphModule, pool: str) -> None:
    """Max pooling of spikes by the rule `pool`; of currents, that of the accumulated currents."""
    for node in nodes_of(graph, "max_pool"):
        rule = POOLS[pool] if _carries_spikes(node) else AccumulatedMaxPool
        graph.add_submodule(str(node.target), rule(layer_of(graph, node).keywords))


def _carries_spikes(node: fx.Node) -> bool:
    if node.meta["kind"] in ("max_pool", "linear", "cat", "part"):
        return all(_carries_spikes(x) for x in node.all_input_nodes if x.meta["kind"] != "shape")
    return node.meta["kind"] == "activation"


def _count_spikes(graph: fx.GraphModule, scales: Mapping[str, Tensor]) -> None:
    """Put a symmetric neuron behind each convolution of the read-out, whose logits become rate * lam."""
    if not (outside := readouts(graph)):
        raise UserError(
            "decode = 'spike_count': the head has no convolution after the mean over T, whose output could fire"
        )
    for name in outside:
        if name not in scales:
            raise UserError(f"decode = 'spike_count': no scales for the read-out {name}: calibrate(..., readout=True)")
    for node in nodes_of(graph, "convolution"):
        if str(node.target) not in outside:
            continue
        name = str(node.target)
        (mean,) = node.all_input_nodes
        conv, (x,) = layer_of(graph, node), mean.all_input_nodes
        lam = torch.as_tensor(scales[name]).to(conv.weight).expand(conv.out_channels)
        per_step = PerStep(scaled_conv(conv, after=1 / lam))
        current = insert(graph, mean, f"{name}:current", per_step, x, "convolution")
        neuron = build_neuron("signed_if", negative_slope=1.0)
        spikes = insert(graph, mean, f"{name}:neuron", neuron, current, "activation")
        with graph.graph.inserting_before(node):
            rate = graph.graph.call_method("mean", (spikes, 0))
        rate.meta["kind"] = "mean"
        node.replace_all_uses_with(insert(graph, node, f"{name}:lam", ChannelScale(lam), rate, "after"))
        graph.graph.erase_node(node)
        if not mean.users:
            graph.graph.erase_node(mean)


class WeightedMean(nn.Module):
    """sum of leak^(T - t) x[t] over T, divided by the sum of the weights: [T, ...] -> [...]."""

    def __init__(self, leak: float):
        super().__init__()
        self.leak = leak

    def forward(self, x: Tensor) -> Tensor:
        weights = self.leak ** torch.arange(len(x) - 1, -1, -1, device=x.device, dtype=x.dtype)
        return torch.tensordot(weights / weights.sum(), x, 1)


def _weigh_steps(graph: fx.GraphModule, node: fx.Node, leak: float) -> None:
    if leak == 1:
        return
    node.replace_all_uses_with(
        insert(graph, node, f"{node.name}_leaky", WeightedMean(leak), node.all_input_nodes[0], "mean")
    )
    graph.graph.erase_node(node)
