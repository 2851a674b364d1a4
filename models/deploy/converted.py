"""ConvertedDetector: a spiking detector made of a trained ANN."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, fx, nn

from neurons import MultiStepNeuron
from registry import UserError

from ..contracts import Encoder, Head
from ..detector import Detector
from .graph import nodes_of
from .scales import ScaleTable
from .simulate import simulate
from .spike_counter import SpikeCounter


class ConvertedNetwork(nn.Module):
    """x [T, B, C, H, W] -> logits per level [B, ...], averaged over T; of the source's head, the layers are here too.

    `currents`: the layers before the first neurons, of which a constant input needs one run; `spiking`: all others.
    """

    def __init__(self, graph: fx.GraphModule):
        super().__init__()
        self.currents, self.spiking = _split(graph)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.spiking(*self.currents(x))


class ConvertedDetector(Detector):
    """A `Detector` whose network is the layer graph of a converted ANN, made by `convert`.

    It is a detector like others: `snn(x)` gives detections after `snn.T` steps, in memory that does not grow with T;
    `simulate(snn, x, steps)` gives logits at any number of steps. Its head only decodes. To train, train the ANN.

    Args:
        graph: x [T, B, C, H, W] -> logits, with spiking neurons as activations.
        scales: {layer name: lam}, by which it was normalised: a rate times lam is an activation of the ANN.
        leak: of the read-out.

    `bias` and `calibrated_at` are set by `calibrate_bias`.
    """

    def __init__(
        self, graph: fx.GraphModule, head: Head, encoder: Encoder, scales: Mapping[str, Tensor], leak: float = 1.0
    ):
        names = [str(node.target) for node in nodes_of(graph, "activation")]
        table = scales if isinstance(scales, ScaleTable) else ScaleTable(scales)
        super().__init__(ConvertedNetwork(graph), copy.deepcopy(head), encoder)  # type: ignore[arg-type]
        self.layer_names, self.scales, self.leak = names, table, leak
        self.bias: dict[str, Tensor] = {}
        self.calibrated_at: int | None = None
        self.spikes = SpikeCounter()
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # faster on CPUs and GPUs

    def train(self, mode: bool = True) -> ConvertedDetector:
        if mode:
            raise UserError("a converted network is not trained: train the ANN, and convert it again")
        return super().train(mode)

    def logits(self, x_TBCHW: Tensor) -> list[Tensor]:
        return self.network(x_TBCHW)

    def raw(self, x: Tensor) -> list[Tensor]:
        """Logits after T steps of a batch of a dataset, simulated step by step."""
        ((_, logits),) = simulate(self, x, [self.T])
        return logits

    def stepper(self, x: Tensor) -> Callable[[int], list[Tensor]]:
        if not self.constant_input(x):
            return super().stepper(x)
        network = self.network
        assert isinstance(network, ConvertedNetwork)
        currents = network.currents(self.encode_step(x, 0))  # direct coding: the first layers run once
        return lambda t: network.spiking(*currents)

    def spiking_layers(self) -> dict[str, MultiStepNeuron]:
        """{layer name of the source network: its neuron}, as the layers run."""
        spiking = self.network.spiking  # type: ignore[attr-defined]
        return {name: spiking.get_submodule(name) for name in self.layer_names}

    def spike_counts(self) -> dict[str, int]:
        """{layer: spikes so far} of the running, or the last, simulation, of the batch together."""
        return self.spikes.totals()


def _split(graph: fx.GraphModule) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The part of `graph` that no neuron comes before, and the rest, whose arguments are that part's outputs."""
    first: dict[fx.Node, bool] = {}
    for node in graph.graph.nodes:
        stateful = node.meta["kind"] in ("activation", "max_pool", "mean", "output")
        first[node] = not stateful and all(first[x] for x in node.all_input_nodes)
    border = [node for node in first if first[node] and any(not first[user] for user in node.users)]
    front, back = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.graph.nodes:
        if first[node]:
            copies[node] = front.node_copy(node, copies.__getitem__)
    front.output(tuple(copies[node] for node in border))
    copies = {node: back.placeholder(node.name) for node in border}
    for node in graph.graph.nodes:
        if not first[node]:
            copies[node] = back.node_copy(node, copies.__getitem__)
    parts = fx.GraphModule(graph, front), fx.GraphModule(graph, back)
    for part in parts:
        part.graph.lint()
    return parts
