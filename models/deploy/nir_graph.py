"""A network as a graph of NIR, the Neuromorphic Intermediate Representation that other simulators and chips read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nir
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from registry import UserError

from ..detector import Detector
from .fold import fold_bn
from .graph import channel_range, layer_of
from .nir_layers import Shape, average_pool, convolution, max_pool, neuron, pad, selection
from .nir_support import Unsupported, cut, explain


def to_nir(
    model: Detector, shape: Shape, upto: str | None = None, dt: float = 1e-4, dtype: Any = np.float32
) -> nir.NIRGraph:
    """One step of `model`, or of its layers up to the module `upto`, as a graph whose nodes have the layers' names.

    BatchNorm is folded into convolutions. A sum is two edges into one node; a concatenation is the sum of 1 x 1
    convolutions that place the channels; max pooling of spikes is a sum over the window and a threshold of 1/2. All
    three are exact. The mean over T, and what a head does after its last convolutions, is left to the reader of the
    graph: logits are the mean of its outputs over the steps.

    Args:
        model: its encoder stays outside: an input of the graph is one step of `model.encode(x)`.
        shape: (C, H, W) of that step. The graph is for this size alone.
        upto: a module, as network.stage3, whose outputs become those of the graph.
        dt: seconds per step. NIR's neurons are differential equations; Euler's method with this step gives ours.
        dtype: of weights and constants.

    Outputs are `output`, or `output_0`, `output_1`, ... in the order of the levels; their metadata names the layer.
    UserError with each reason why NIR cannot hold the network, the first layer it applies to, and where to cut.
    """
    graph = fold_bn(model)
    outputs = cut(graph, upto)
    lowering = _Lowering(graph, shape, dt, dtype)
    wanted = _needed(outputs)
    for node in graph.graph.nodes:
        if node in wanted:
            lowering.add(node)
    if lowering.problems:
        raise UserError(explain(graph, lowering.problems))
    for k, node in enumerate(outputs):
        name = "output" if len(outputs) == 1 else f"output_{k}"
        of = {"layer": str(node.target) if node.op == "call_module" else node.name}
        output = nir.Output({"output": np.array(lowering.shapes[node])}, metadata=of)
        lowering.put(name, output, lowering.sources[node])
    return nir.NIRGraph(lowering.nodes, lowering.edges, metadata={"dt": dt})


def _needed(outputs: Sequence[fx.Node]) -> set[fx.Node]:
    needed, todo = set(outputs), list(outputs)
    while todo:
        new = [x for x in todo.pop().all_input_nodes if x not in needed]
        needed |= set(new)
        todo += new
    return needed


class _Shapes(fx.Interpreter):
    """Runs one step of zeros, but for the neurons, and keeps the shape of each node without time and batch."""

    def __init__(self, graph: fx.GraphModule):
        super().__init__(graph)
        self.shapes: dict[fx.Node, Shape] = {}

    def run_node(self, n: fx.Node) -> Any:
        y = self.env[n.all_input_nodes[0]] if n.meta["kind"] == "activation" else super().run_node(n)
        if isinstance(y, Tensor) and y.dim() >= 3:
            self.shapes[n] = tuple(y.shape[-3:])
        return y


class _Lowering:
    """Nodes and edges of NIR, node by node of a layer graph.

    sources[node]: the NIR nodes whose sum is the value of `node`.
    binary: the nodes whose values are spikes, 0 or 1.
    """

    def __init__(self, graph: fx.GraphModule, shape: Shape, dt: float, dtype: Any):
        self.graph, self.dt, self.dtype = graph, dt, dtype
        run = _Shapes(graph)
        weight = next(graph.parameters())
        with torch.inference_mode():
            run.run(torch.zeros(1, 1, *shape, dtype=weight.dtype, device=weight.device))
        self.shapes = run.shapes
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.sources: dict[fx.Node, list[str]] = {}
        self.binary: set[fx.Node] = set()
        self.problems: dict[fx.Node, str] = {}

    def put(self, name: str, node: nir.NIRNode, sources: Sequence[str]) -> list[str]:
        """Add a node whose input is the sum of `sources`, and its edges."""
        self.nodes[name] = node
        for k, source in enumerate(sources):
            if source in sources[:k]:  # NIR has no edge twice
                source = self._again(source, f"{name}:again{k}")
            self.edges.append((source, name))
        return [name]

    def _again(self, source: str, name: str) -> str:
        (shape,) = self.nodes[source].output_type.values()
        self.put(name, nir.Scale(np.ones(shape, self.dtype)), [source])
        return name

    def add(self, node: fx.Node) -> None:
        try:
            self.sources[node] = self._lower(node)
        except Unsupported as reason:
            self.problems[node] = str(reason)
            self.sources[node] = []

    def _lower(self, node: fx.Node) -> list[str]:
        kind = node.meta["kind"]
        if kind == "input":
            return self.put("input", nir.Input({"input": np.array(self.shapes[node])}), [])
        if kind == "shape":
            return []
        inputs = [x for x in node.all_input_nodes if x.meta["kind"] != "shape"]
        name, first = str(node.target) if node.op == "call_module" else node.name, inputs[0]
        sources, shape = self.sources[first], self.shapes[first]
        layer = layer_of(self.graph, node) if node.op == "call_module" else None
        if kind == "activation":
            if node.meta["after mean"]:
                raise Unsupported("an activation of the mean over T sees no single step")
            self.binary.add(node)
            return self.put(name, neuron(layer, shape, self.dt, self.dtype), sources)
        if kind == "convolution":
            return self.put(name, convolution(layer, shape, self.dtype), sources)
        if kind == "mean":
            return sources
        if kind == "add":
            return [source for x in node.args for source in self.sources[x]]  # type: ignore[index]
        if kind == "cat":
            return self._concatenate(node, name)
        if kind == "part":
            start, stop, _ = channel_range(node).indices(shape[0])  # type: ignore[union-attr]
            return self._select(name, first, range(start, stop), range(stop - start), stop - start)
        if kind == "max_pool":
            if first not in self.binary:
                raise Unsupported("max pooling of real values (of spikes it is a sum and a threshold)")
            self.binary.add(node)
            pool, threshold = max_pool(layer, shape, self.shapes[node], self.dtype)
            return self.put(name, threshold, self.put(f"{name}:sum", pool, sources))
        if kind == "linear":
            return self._linear(node, name, layer, first)
        what = type(layer).__name__ if layer is not None else getattr(node.target, "__name__", str(node.target))
        raise Unsupported("Fourier transforms" if kind == "fourier" else what)

    def _concatenate(self, node: fx.Node, name: str) -> list[str]:
        parts, found, start = node.args[0], [], 0
        total = self.shapes[node][0]
        for k, part in enumerate(parts):  # type: ignore[arg-type]
            channels = self.shapes[part][0]
            to = range(start, start + channels)
            found += self._select(f"{name}:{k}", part, range(channels), to, total)
            start += channels
        if all(part in self.binary for part in parts):  # type: ignore[union-attr]
            self.binary.add(node)
        return found

    def _select(self, name: str, x: fx.Node, channels: range, to: range, total: int) -> list[str]:
        """Channels `channels` of x as the channels `to` of `total`, the others 0."""
        return self.put(name, selection(self.shapes[x], channels, to, total, self.dtype), self.sources[x])

    def _linear(self, node: fx.Node, name: str, layer: Any, x: fx.Node) -> list[str]:
        sources, shape, after = self.sources[x], self.shapes[x], self.shapes[node]
        if isinstance(layer, nn.AvgPool2d):
            return self.put(name, average_pool(layer, shape, after), sources)
        border = _border(node, layer, shape, after)
        if x in self.binary:
            self.binary.add(node)
        return self.put(name, pad(shape, border, self.dtype), sources) if any(border) else sources


def _border(node: fx.Node, layer: Any, shape: Shape, after: Shape) -> tuple[int, ...]:
    """(left, right, top, bottom): zeros added, or below 0 taken away; Unsupported for any other linear layer."""
    if isinstance(layer, nn.Identity):
        return 0, 0, 0, 0
    if isinstance(layer, nn.ZeroPad2d):
        return layer.padding
    if layer is None:  # x[..., :h, :w]
        if any(index.start or index.step for index in node.args[1][1:]):  # type: ignore[index,union-attr]
            raise Unsupported("strided slices")
        return 0, after[2] - shape[2], 0, after[1] - shape[1]
    function, args, kwargs = layer.args if hasattr(layer, "args") else (type(layer), (), {})  # a call that is a node
    if function in (F.interpolate, nn.Upsample):
        raise Unsupported("upsampling")
    if function is F.pad and kwargs.get("mode", "constant") == "constant" and all(isinstance(n, int) for n in args[0]):
        return tuple(args[0])
    raise Unsupported(function.__name__)
