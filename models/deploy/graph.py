"""The layer graph of a network, traced from its own code: what folding, calibration and conversion work on.

A node is one layer on [T, B, C, H, W] (of a plain module: [B, C, H, W]). `node.meta["kind"]` says what it does:

    input       the input
    convolution Conv2d or ConvTranspose2d
    norm        BatchNorm2d, until it is folded
    activation  a nonlinearity, or a neuron in its place
    max_pool    F.max_pool2d
    linear      per channel, without a constant: average pooling, upsampling, padding, cropping, x * scale
    add, cat    sum; concatenation of channels
    part        a range of the channels
    fourier     to the spectrum or back: linear, without a constant, over a whole map
    mean        the mean over T
    after       computed from the mean: convolutions of a head have kind `convolution` there too
    shape       sizes for cropping, no tensor
    output      the result
    unknown     anything else: `require_convertible` names it
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from neurons import MultiStepNeuron, build_neuron
from neurons.activation import LeakyReLU, ReLU
from neurons.qcfs import QCFS
from neurons.sth import STH
from registry import UserError

from ..detector import Detector
from ..layers.ffc import ReflectPad, Signal, Spectrum
from ..layers.spike_conv import Reparameterised
from ..layers.step_weights import StepWeights
from ..layers.time import over_time
from ..temporal_encoder import TemporalEncoder

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
CONVERTIBLE = (ReLU, LeakyReLU, QCFS, STH)
NONLINEAR = (nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.GELU, nn.Hardswish, nn.PReLU, nn.ELU)
LINEAR_MODULES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample, nn.ZeroPad2d, ReflectPad)
FOURIER = (Spectrum, Signal)
LINEAR_FUNCTIONS = (F.avg_pool2d, F.adaptive_avg_pool2d, F.interpolate, F.pad)
RELU = (F.relu, torch.relu, "relu")


class PerStep(nn.Module):
    """A layer without state, [N, C, H, W] -> [N, C', H', W'], on all steps of [T, B, C, H, W], or on [B, C, H, W]."""

    def __init__(self, layer: Any):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return over_time(self.layer, x) if x.dim() == 5 else self.layer(x)


class _NetworkAndHead(nn.Module):
    """What a `Detector` computes of [T, B, C, H, W]: logits."""

    def __init__(self, model: Detector):
        super().__init__()
        if model.memory is not None:
            raise UserError("memory: its cells are recurrent, so that they have no graph to convert; train without it")
        self.network, self.head = model.network, model.head

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.head(self.network(x))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaf = isinstance(m, (MultiStepNeuron, ReflectPad, *FOURIER)) or hasattr(m, "dense")
        return leaf or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module) -> fx.GraphModule:
    """A copy of `model` for evaluation, as a graph of its layers.

    A `Detector` gives the graph x [T, B, C, H, W] -> logits per level, without its encoder; any other module its own,
    on [B, C, H, W]. Re-parameterised convolutions become the one convolution that they equal. UserError if its code
    cannot be traced, as where it branches on the values of a tensor.
    """
    if isinstance(model, fx.GraphModule) and model.meta.get("layer graph"):
        return copy.deepcopy(model)
    if isinstance(model, Detector):
        _require_equal_steps(model)
    root = copy.deepcopy(_NetworkAndHead(model) if isinstance(model, Detector) else model).eval().requires_grad_(False)
    tracer = _Tracer()
    try:
        graph = fx.GraphModule(root, tracer.trace(root))
    except (fx.proxy.TraceError, TypeError, NotImplementedError) as error:
        inside = [path for path, _ in getattr(tracer, "module_stack", {}).values()]
        raise UserError(
            f"{inside[-1] if inside else type(model).__name__}: its layers cannot be traced: {error}. A network that "
            "is converted must not branch on values of tensors"
        ) from error
    graph.meta["layer graph"] = True
    channel_axis = {-3, 2 if isinstance(model, Detector) else 1}
    for node in graph.graph.nodes:
        node.meta["kind"] = _kind(graph, node, channel_axis)
    graph.graph.lint()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _require_equal_steps(model: Detector) -> None:
    """UserError for a detector whose steps differ by their place among T: rates are over any number of equal steps."""
    if isinstance(model.encoder, TemporalEncoder):
        raise UserError(
            "encoder = 'temporal': the steps of an image differ, and a converted network sees one image for all steps: "
            "train the network to convert without model.args.encoder"
        )
    if any(isinstance(m, StepWeights) for m in model.modules()):
        raise UserError(
            "readout = 'learned': has weights for T steps, and a converted network is read out by its mean over any "
            "number of steps: train the network to convert without model.args.readout"
        )


def _kind(graph: fx.GraphModule, node: fx.Node, channel_axis: set[int]) -> str:
    """The kind of a node, whose layer is put into the form that all others rely on."""
    after = node.meta["after mean"] = any(_after_mean(x) for x in node.all_input_nodes)
    if node.op in ("placeholder", "output"):
        return "input" if node.op == "placeholder" else "output"
    if node.op == "call_module":
        return _kind_of_module(graph, node)
    if node.target in RELU:
        return _as_module(graph, node, build_neuron("relu"), "activation")
    if node.target is F.leaky_relu:
        slope = node.kwargs.get("negative_slope", 0.01)
        return _as_module(graph, node, build_neuron("leaky_relu", negative_slope=slope), "activation")
    if after:
        return "after"
    if node.target == "mean" and node.args[1:] == (0,) and not node.kwargs:
        return "mean"
    if node.target in (operator.add, torch.add) and all(isinstance(x, fx.Node) for x in node.args) and not node.kwargs:
        return "add"
    if node.target is torch.cat:
        tensors, dim = node.args[0], node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        if dim in channel_axis:
            node.args, node.kwargs = (tensors, -3), {}
            return "cat"
    if node.target is getattr and node.args[1] == "shape":
        return "shape"
    if node.target is operator.getitem:
        source, index = node.args
        if source.meta["kind"] == "shape":  # type: ignore[union-attr]
            return "shape"
        if isinstance(index, tuple) and len(index) == 3 and index[0] is Ellipsis:
            return "linear" if all(isinstance(i, slice) for i in index[1:]) else "unknown"
        if channel_range(node) is not None:
            return "part"
    if node.target is F.max_pool2d and not node.kwargs.get("return_indices"):
        return _as_module(graph, node, _max_pool(*node.args[1:], **node.kwargs), "max_pool")
    if node.target in LINEAR_FUNCTIONS and (node.target is not F.pad or not node.kwargs.get("value")):
        return _as_module(graph, node, _bound(node), "linear")
    return "unknown"


def channel_range(node: fx.Node) -> slice | None:
    """a:b of x[..., a:b, :, :]; None where `node` is another index."""
    match node.args[1]:
        case (x, slice() as channels, slice(start=None, stop=None), slice(start=None, stop=None)) if x is Ellipsis:
            return channels
    return None


def _after_mean(node: fx.Node) -> bool:
    return node.meta["kind"] == "mean" or node.meta["after mean"]


def _kind_of_module(graph: fx.GraphModule, node: fx.Node) -> str:
    layer = layer_of(graph, node)
    if isinstance(layer, nn.ReLU):
        return _put(graph, node, build_neuron("relu"), "activation")
    if isinstance(layer, nn.LeakyReLU):
        return _put(graph, node, build_neuron("leaky_relu", negative_slope=layer.negative_slope), "activation")
    if isinstance(layer, (MultiStepNeuron, *NONLINEAR)):
        return _put(graph, node, layer, "activation")
    if isinstance(layer, (nn.Identity, nn.Dropout, nn.Dropout2d)):
        return _put(graph, node, nn.Identity(), "linear")
    if hasattr(layer, "dense"):
        reparameterised: Reparameterised = layer  # type: ignore[assignment]
        return _put(graph, node, PerStep(reparameterised.dense()), "convolution")
    if isinstance(layer, FOURIER):
        return _put(graph, node, layer, "fourier")
    kinds = {CONVOLUTIONS: "convolution", nn.BatchNorm2d: "norm", LINEAR_MODULES: "linear"}
    for types, kind in kinds.items():
        if isinstance(layer, types):  # type: ignore[arg-type]
            return _put(graph, node, PerStep(layer), kind)
    if isinstance(layer, nn.MaxPool2d) and not layer.return_indices:
        window = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode)
        return _put(graph, node, _max_pool(*window), "max_pool")
    return "unknown"


def _put(graph: fx.GraphModule, node: fx.Node, layer: nn.Module, kind: str) -> str:
    """Give `node` a layer of its own, under the name of the source module; further calls of that are name:2, name:3."""
    name, taken = str(node.target), {n.target for n in graph.graph.nodes if n is not node and "kind" in n.meta}
    call = 1
    while (own := name if call == 1 else f"{name}:{call}") in taken:
        call += 1
    node.target = own
    graph.add_submodule(own, copy.deepcopy(layer) if call > 1 else layer)
    return kind


def _max_pool(kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False) -> PerStep:
    window = dict(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
    return PerStep(partial(F.max_pool2d, **window))


def _bound(node: fx.Node) -> nn.Module:
    return PerStep(partial(_with_arguments, node.target, node.args[1:], dict(node.kwargs)))


def _with_arguments(function: Any, args: tuple, kwargs: dict[str, Any], x: Tensor) -> Tensor:
    return function(x, *args, **kwargs)


def _as_module(graph: fx.GraphModule, node: fx.Node, layer: nn.Module, kind: str) -> str:
    """A function's call becomes that of a module."""
    source = node.args[0]
    node.op, node.target, node.args, node.kwargs = "call_module", node.name, (source,), {}
    graph.add_submodule(node.name, layer)
    return kind


def layer_of(graph: fx.GraphModule, node: fx.Node) -> Any:
    """The module of a node; of a layer without state, the layer itself."""
    module = graph.get_submodule(str(node.target))
    return module.layer if isinstance(module, PerStep) else module


def nodes_of(graph: fx.GraphModule, *kinds: str) -> Iterator[fx.Node]:
    """The nodes of these kinds, in the order they run."""
    return (node for node in list(graph.graph.nodes) if node.meta["kind"] in kinds)


def insert(graph: fx.GraphModule, before: fx.Node, name: str, layer: nn.Module, x: fx.Node, kind: str) -> fx.Node:
    """A new node layer(x), placed before another one."""
    graph.add_submodule(name, layer)
    with graph.graph.inserting_before(before):
        node = graph.graph.call_module(name, (x,))
    node.meta |= {"kind": kind, "after mean": _after_mean(x)}
    return node


def activations(graph: fx.GraphModule) -> dict[str, nn.Module]:
    """{layer name: activation}, in the order they run. The name is its path in the source, as network.conv3.neuron."""
    return {str(node.target): graph.get_submodule(str(node.target)) for node in nodes_of(graph, "activation")}


def readouts(graph: fx.GraphModule) -> dict[str, nn.Module]:
    """{name: layer} of the convolutions whose output leaves the network as logits: those after the mean over T."""
    return {
        str(node.target): graph.get_submodule(str(node.target))
        for node in nodes_of(graph, "convolution")
        if node.meta["after mean"]
    }


def require_convertible(graph: fx.GraphModule) -> None:
    """UserError that names the first operation of which a spiking network has no counterpart, and why."""
    for node in graph.graph.nodes:
        where = f"{node.target}" if node.op == "call_module" else f"{node.name}, {_text(node)}"
        if node.meta["kind"] == "unknown":
            raise UserError(
                f"{where}: cannot be converted. Rates of spikes pass through convolutions, BatchNorm, sums, "
                "concatenations of channels, pooling, upsampling, padding, cropping and FFTs; of other operations the "
                "mean of the outputs is not the output for the mean of the inputs"
            )
        if node.meta["kind"] != "activation":
            continue
        layer = layer_of(graph, node)
        if node.meta["after mean"]:
            raise UserError(f"{where}: an activation of the mean over T cannot be converted: it sees no single step")
        if isinstance(layer, CONVERTIBLE):
            continue
        what = type(layer).__name__
        why = f"no spiking neuron has the rate {what}(x)"
        if isinstance(layer, MultiStepNeuron) and layer.spiking:
            why = f"{what} is a spiking neuron already"
        kept = (
            ". What a family keeps as SiLU has an argument, as model.args.spike_stages=full" if what == "SiLU" else ""
        )
        raise UserError(
            f"{where}: {what} cannot be converted: {why}. Train with model.neuron=relu, leaky_relu, qcfs or sth in "
            f"place of every activation{kept}"
        )


def _text(node: fx.Node) -> str:
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return f"{target}({', '.join(str(x.target) if x.op == 'call_module' else x.name for x in node.all_input_nodes)})"


def channels(graph: fx.GraphModule) -> dict[fx.Node, int]:
    """Number of channels of each node before the mean over T, from the convolutions."""
    found: dict[fx.Node, int] = {}
    for node in graph.graph.nodes:
        kind, inputs = node.meta["kind"], node.all_input_nodes
        if kind == "convolution":
            layer = layer_of(graph, node)
            found[node] = layer.out_channels
            _fill(found, inputs[0], layer.in_channels)
        elif kind == "cat":
            if all(x in found for x in inputs):
                found[node] = sum(found[x] for x in node.args[0])  # type: ignore[union-attr]
        elif kind == "part":
            found[node] = len(range(found[inputs[0]])[channel_range(node)])  # type: ignore[index]
        elif kind == "fourier":
            spectrum = isinstance(layer_of(graph, node), Spectrum)
            found[node] = found[inputs[0]] * 2 if spectrum else found[inputs[0]] // 2
        elif kind not in ("input", "shape", "output", "after", "unknown"):
            known = [found[x] for x in inputs if x in found]
            if known:
                found[node] = known[0]
    return found


def _fill(found: dict[fx.Node, int], node: fx.Node, count: int) -> None:
    """Channels of a node that a convolution reads; of those before the first convolution, back to the input."""
    if node in found:
        return
    found[node] = count
    parts = node.args[0] if node.meta["kind"] == "cat" else None
    for x in node.all_input_nodes:
        if x.meta["kind"] != "shape":
            _fill(found, x, count if parts is None else count // len(parts))  # type: ignore[arg-type]
