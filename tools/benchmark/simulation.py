"""Cost per time step of a converted network, beside SpikingJelly's conversion of the same ReLU network.

    python -m tools.benchmark simulation                            Spiking YOLOv3 at 416 x 416, one image
    python -m tools.benchmark simulation --width 0.5 --size 128 160 --steps 1024

Both take turns in one process, so that other load on the machine affects them alike; figures are CPU ms per step on one
thread. Scales are the 99.9 % percentiles per channel of random weights on the image. Peak memory is that of the process
after 64 steps of ours, and after all `--steps`.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx, nn

from models import create_model
from models.deploy import calibrate, convert, simulate
from models.deploy.fold import fold_bn
from models.deploy.graph import PerStep, layer_of, nodes_of, trace

TURN = 10  # steps


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="spiking_yolov3", help="any model without max pooling; its ReLU twin")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument(
        "--size", type=int, nargs=2, default=[416, 416], metavar=("HEIGHT", "WIDTH"), help="multiples of 32"
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--turns", type=int, default=5, help="of 10 steps each")
    parser.add_argument("--steps", type=int, default=1024, help="of the run whose memory is measured; 0: none")
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = create_model(args.model, num_classes=20, T=1, neuron="relu", width=args.width).eval()
    x = torch.rand(args.batch, 3, *args.size)
    snn = convert(model, calibrate(model, [x]))
    ann, theirs = fold_bn(model), spikingjelly_conversion(model, x)
    run = simulate(snn, x, range(1, 100_000))
    contenders: dict[str, Callable[[], object]] = {
        "ANN, folded": lambda: ann(x[None]),
        "SpikingJelly": lambda: theirs(x),
        "ours": lambda: next(run),
    }
    taken = {name: [] for name in contenders}  # type: dict[str, list[float]]
    with torch.inference_mode():
        for turn in range(args.turns + 1):  # the first warms up
            for name, step in contenders.items():
                start = time.process_time()
                for _ in range(TURN):
                    step()
                if turn:
                    taken[name].append((time.process_time() - start) / TURN * 1e3)
    run.close()
    shape = " x ".join(map(str, x.shape))
    print(f"{args.model}, width {args.width:g}, {shape}, torch {torch.__version__}")
    print(f"{'':14}{'CPU ms':>9}{'lowest':>9}{'highest':>9}  of SpikingJelly")
    reference = median(taken["SpikingJelly"])
    for name, ms in taken.items():
        print(f"{name:14}{median(ms):9.2f}{min(ms):9.2f}{max(ms):9.2f}{median(ms) / reference:11.2f}")
    if args.steps:
        peaks = [f"{T} steps {peak_mib():.1f} MiB" for T, _ in simulate(snn, x, [64, args.steps])]
        print("peak memory: " + ", ".join(peaks))


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def spikingjelly_conversion(model: nn.Module, x: Tensor) -> nn.Module:
    """SpikingJelly's rate-coding conversion of a ReLU network in single-step mode: [B, C, H, W] -> logits of a step.

    It converts nn.ReLU on [B, C, H, W] only, so it gets the network's layer graph in that form.
    """
    from spikingjelly.activation_based import ann2snn, functional

    graph = plain(trace(model))
    recipe = ann2snn.RateCodingRecipe([(x, 0)], mode="99.9%", channel_wise=True)
    snn = ann2snn.Converter(recipe).convert(graph).eval()
    functional.set_step_mode(snn, "s")
    return snn


def plain(graph: fx.GraphModule) -> fx.GraphModule:
    """The layer graph on [B, C, H, W] with nn.ReLU as activations, without the cropping that odd sizes need."""
    for node in nodes_of(graph, "activation"):
        graph.add_submodule(str(node.target), nn.ReLU())
    for node in nodes_of(graph, "mean", "linear"):
        if node.op != "call_module":
            node.replace_all_uses_with(node.all_input_nodes[0])
    graph.graph.eliminate_dead_code()
    for node in graph.graph.nodes:
        if node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), PerStep):
            graph.add_submodule(str(node.target), layer_of(graph, node))
    graph.recompile()
    return graph
