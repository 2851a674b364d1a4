"""Data-based normalisation: weights and biases for activations between 0 and 1, by channel or by layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from neurons import DynamicNeuron
from neurons.qcfs import QCFS
from neurons.sth import STH

from .fold import fold_bn
from .graph import PerStep, channel_range, channels, insert, layer_of, nodes_of, readouts, require_convertible
from .scaled_conv import scaled_conv
from .scales import ScaleTable

Scale = Tensor | None  # [C]: value in the source network = scale * value here; None: scale 1


class ChannelScale(nn.Module):
    """x [..., C, H, W] * scale [C]: a synapse of one weight per channel."""

    scale: Tensor

    def __init__(self, scale: Tensor):
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.view(-1, 1, 1)


def normalise(model: nn.Module, scales: Mapping[str, Tensor], input_scale: float = 1.0) -> fx.GraphModule:
    """The layer graph of a copy of `model` whose activations are those of the source divided by lam.

    With lam_in of the layers that a convolution reads, and lam_out of the activation that reads it,

        W'[j, i] = W[j, i] lam_in[i] / lam_out[j],    b'[j] = b[j] / lam_out[j]

    so that a threshold of 1 stands for lam (Spiking-YOLO, equation 4; Spiking YOLOv3, equation 15). Scales pass through
    concatenation, pooling, upsampling and cropping; an FFT has the values of the source. Where they differ in a sum,
    and where activations of different lam read one map (membrane shortcuts), the branch is multiplied by the quotient
    per channel. Logits stay those of the source. With ReLU the network computes the same function; activations with a
    threshold get the threshold 1.

    Args:
        model: a network with BatchNorm or a folded graph (`fold_bn`).
        scales: {layer name: lam, [C] or one value}, for every activation (`calibrate` makes them, and `activations`
            lists the names).
        input_scale: of the input: source value = input_scale * value here. 1 for direct coding.

    UserError for missing, unknown or wrong scales, and for layers that do not convert.
    """
    graph = fold_bn(model)
    require_convertible(graph)
    lam = checked_scales(graph, scales)
    wanted = _wanted(graph, lam)
    of: dict[fx.Node, Scale] = {}
    for node in nodes_of(graph, "input"):
        of[node] = None if input_scale == 1 else torch.full((channels(graph)[node],), float(input_scale))
    for node in list(graph.graph.nodes):
        kind, inputs = node.meta["kind"], node.all_input_nodes
        if kind == "convolution":
            (x,) = inputs
            conv = scaled_conv(layer_of(graph, node), of[x], _inverse(wanted[node]))
            graph.add_submodule(str(node.target), PerStep(conv))
            of[node] = wanted[node]
        elif kind == "activation":
            (x,) = inputs
            own = lam[str(node.target)]
            _rescale(graph, node, x, of[x], own)
            layer = _with_threshold_1(layer_of(graph, node))
            graph.add_submodule(str(node.target), layer)
            of[node] = own
        elif kind in ("add", "output"):
            for x in inputs:
                if x.meta["kind"] != "after":
                    _rescale(graph, node, x, of[x], wanted[node])
            of[node] = wanted[node]
        elif kind == "cat":
            of[node] = _joined([(of[x], channels(graph)[x]) for x in inputs])
        elif kind in ("max_pool", "linear", "mean"):
            of[node] = of[inputs[0]]
        elif kind == "part":
            scale = of[inputs[0]]
            of[node] = None if scale is None else scale[channel_range(node)]
        elif kind == "fourier":  # it adds up a channel's real and imaginary part
            _rescale(graph, node, inputs[0], of[inputs[0]], None)
            of[node] = None
        elif kind == "after":
            for x in inputs:
                if x.meta["kind"] != "after":
                    _rescale(graph, node, x, of[x], None)
    graph.graph.lint()
    graph.recompile()
    return graph


def checked_scales(graph: fx.GraphModule, scales: Mapping[str, Tensor]) -> ScaleTable:
    """lam [C] of every activation; scales of read-outs are left out. UserError naming the layer."""
    width = channels(graph)
    of_layers = {str(node.target): width[node] for node in nodes_of(graph, "activation")}
    outside = readouts(graph)
    return ScaleTable.of_layers({name: lam for name, lam in scales.items() if name not in outside}, of_layers)


def _wanted(graph: fx.GraphModule, lam: Mapping[str, Tensor]) -> dict[fx.Node, Scale]:
    """The scale in which each node's value is read: lam if one activation reads it, else None."""
    width = channels(graph)
    wanted: dict[fx.Node, Scale] = {}
    for node in reversed(graph.graph.nodes):
        demands: list[Scale] = []
        for user in node.users:
            kind = user.meta["kind"]
            if kind == "activation":
                demands.append(lam[str(user.target)])
            elif kind in ("max_pool", "linear", "add", "mean"):
                demands.append(wanted[user])
            elif kind == "cat":
                demands.append(_part(wanted[user], user, node, width))
            elif kind not in ("convolution", "shape"):
                demands.append(None)
        same = bool(demands) and all(_equal(d, demands[0]) for d in demands)
        wanted[node] = demands[0] if same else None
    return wanted


def _part(scale: Scale, cat: fx.Node, node: fx.Node, width: Mapping[fx.Node, int]) -> Scale:
    """The scale of the channels that `node` has in a concatenation."""
    if scale is None:
        return None
    parts = scale.split([width[x] for x in cat.args[0]])  # type: ignore[union-attr, index]
    own = [part for x, part in zip(cat.args[0], parts, strict=True) if x is node]  # type: ignore[arg-type]
    return own[0] if all(_equal(part, own[0]) for part in own) else None


def _equal(a: Scale, b: Scale) -> bool:
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def _inverse(scale: Scale) -> Scale:
    return None if scale is None else 1 / scale.double()


def _joined(scales: list[tuple[Scale, int]]) -> Scale:
    if all(scale is None for scale, _ in scales):
        return None
    like = next(scale for scale, _ in scales if scale is not None)
    return torch.cat([like.new_ones(count) if scale is None else scale for scale, count in scales])


def _rescale(graph: fx.GraphModule, node: fx.Node, x: fx.Node, now: Scale, wanted: Scale) -> None:
    """Let `node` read x in the scale `wanted`: multiply by the quotient, unless it is 1."""
    if _equal(now, wanted):
        return
    like = now if now is not None else wanted
    assert like is not None
    one = torch.ones_like(like, dtype=torch.float64)
    factor = (one if now is None else now.double()) / (one if wanted is None else wanted.double())
    weight = next(p for p in graph.parameters())
    name = f"{node.name}_scale_{x.name}"
    node.replace_input_with(x, insert(graph, node, name, ChannelScale(factor.to(weight)), x, "linear"))


def _with_threshold_1(layer: nn.Module) -> nn.Module:
    """The activation of the normalised network: clip-floor-shift and clipped leaky ReLU get the threshold 1."""
    if not isinstance(layer, (QCFS, STH)):
        return layer
    assert isinstance(layer, DynamicNeuron)
    if isinstance(layer, QCFS):
        return QCFS(L=layer.dynamics.levels, v_threshold=1.0, learn_threshold=False, backend=layer.backend)
    slope = layer.dynamics.slope
    return STH(negative_slope=slope, v_threshold=1.0, learn_threshold=False, backend=layer.backend)
