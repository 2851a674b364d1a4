"""Fold BatchNorm into the convolution before it."""

from __future__ import annotations

from torch import fx, nn

from ..layers.spike_conv import conv2d, scale_and_shift
from .graph import PerStep, layer_of, nodes_of, trace
from .scaled_conv import scaled_conv


def fold_bn(model: nn.Module) -> fx.GraphModule:
    """The layer graph of a copy of `model`, for evaluation, without BatchNorm: g = gamma / sqrt(var + eps),

        W' = g W along the axis of output channels,    b' = (b - mean) g + beta

    That axis is 0 of a convolution's weight [C_out, C_in / groups, k, k], and 1 of a transposed one's
    [C_in, C_out / groups, k, k]. A BatchNorm that follows no convolution becomes a 1 x 1 convolution per channel.
    Spiking YOLOv3, equations 10 to 13, whose print has i/m for 1/m and var - eps for var + eps.
    """
    graph = trace(model)
    for node in nodes_of(graph, "norm"):
        (source,) = node.all_input_nodes
        scale, shift = scale_and_shift(layer_of(graph, node))
        if source.meta["kind"] == "convolution" and len(source.users) == 1:
            conv = scaled_conv(layer_of(graph, source), after=scale, shift=shift)
            graph.add_submodule(str(source.target), PerStep(conv))
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
        else:
            like = nn.Conv2d(len(scale), len(scale), 1, groups=len(scale))
            graph.add_submodule(str(node.target), PerStep(conv2d(scale.view(-1, 1, 1, 1), shift, like)))
            node.meta["kind"] = "convolution"
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph
