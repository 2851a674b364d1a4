"""Benchmark neurons: each backend against SpikingJelly's node and a memory copy, and bytes saved for backward.

    python -m tools.benchmark neurons                                   CPU seconds on one thread
    python -m tools.benchmark neurons --device cuda --shape 4,32,64,160,160 --dtype bfloat16

On a CPU the figures are CPU time of the process, on CUDA device time and, beside it, the time of the host; the least of
`--repeats`. All backends of a neuron take turns, so that the machine's load is the same for all. For a GPU the tensor
should be several times the size of the last cache.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from neurons import build_neuron
from neurons.base import DynamicNeuron

SOFT_LIKE_EAS = {"decay_input": False, "v_reset": None, "surrogate_function": surrogate.ATan(2.0), "step_mode": "m"}
UNDAMPED = {"tau": 4 / 3, "decay_input": False, "step_mode": "m"}
RECTANGLE = {"surrogate_function": surrogate.Rect(1.0), "detach_reset": True}
OURS_RECTANGLE = {"surrogate": "rectangle", "detach_reset": True}
# label: (name and arguments of our neuron, SpikingJelly's node of the same dynamics or None)
NEURONS: dict[str, tuple[dict, Callable[[], nn.Module] | None]] = {
    "lif": ({"name": "lif"}, lambda: neuron.LIFNode(v_threshold=0.5, **UNDAMPED, **RECTANGLE)),
    "lif, sigmoid": (
        {"name": "lif", "surrogate": "sigmoid"}, lambda: neuron.LIFNode(v_threshold=0.5, detach_reset=True, **UNDAMPED)
    ),
    "plif": ({"name": "plif"}, lambda: neuron.ParametricLIFNode(init_tau=2.0, **SOFT_LIKE_EAS)),
    "if": ({"name": "if"}, lambda: neuron.IFNode(v_reset=None, step_mode="m")),
    "ilif": ({"name": "ilif"}, lambda: neuron.ILIFNode(detach_reset=True, step_mode="m")),
    "ternary_lif": ({"name": "ternary_lif"}, lambda: neuron.TernaryLIFNode(step_mode="m")),
    "ternary_lif, rectangle": (
        {"name": "ternary_lif", **OURS_RECTANGLE}, lambda: neuron.TernaryLIFNode(step_mode="m", **RECTANGLE)
    ),
    "ternary_if": ({"name": "ternary_if"}, lambda: neuron.TernaryIFNode(step_mode="m")),
    "signed_if": ({"name": "signed_if"}, None),
    "graded_silu": ({"name": "graded_silu"}, None),
    "qcfs": ({"name": "qcfs"}, None),
    "sth": ({"name": "sth"}, None),
}  # fmt: skip


class Clock:
    """Milliseconds of one call: CPU seconds of the process, or device time between two events.

    The device is kept busy while the call is made, so that its time does not include the wait for the host; `host_ms`
    is the time that the host took.
    """

    BUSY = 10_000_000  # cycles, about 5 ms

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.host_ms = 0.0

    def __call__(self, call: Callable[[], object]) -> float:
        if not self.cuda:
            start = time.process_time()
            call()
            return 1e3 * (time.process_time() - start)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(self.BUSY)
        begin.record()
        start = time.perf_counter()
        call()
        self.host_ms = 1e3 * (time.perf_counter() - start)
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end)


@dataclass
class Contestant:
    """One module on one input: `forward` then `backward`, the least time of each so far, in ms."""

    label: str
    module: nn.Module
    x: Tensor
    grad: Tensor
    forward_ms: float = float("inf")
    backward_ms: float = float("inf")
    host_ms: float = float("inf")
    y: Tensor | None = None
    kept: int = 0  # bytes saved for backward besides the input
    keeps_input: bool = False

    def turn(self, clock: Clock) -> None:
        functional.reset_net(self.module)
        self.x.grad = self.y = None
        self.forward_ms = min(self.forward_ms, clock(self._forward))
        host_ms = clock.host_ms
        self.backward_ms = min(self.backward_ms, clock(self._backward))
        self.host_ms = min(self.host_ms, host_ms + clock.host_ms)
        self.y = None

    def _forward(self) -> None:
        self.y = self.module(self.x)

    def _backward(self) -> None:
        assert self.y is not None
        self.y.backward(self.grad)

    def weigh(self) -> None:
        storages = {}

        def pack(t: Tensor) -> Tensor:
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        functional.reset_net(self.module)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            self.module(self.x)
        self.keeps_input = storages.pop(self.x.untyped_storage().data_ptr(), None) is not None
        self.kept = sum(storages.values()) - sum(p.nbytes for p in self.module.parameters())

    @property
    def ms(self) -> float:
        return self.forward_ms + self.backward_ms


def copy_ms(nbytes: int, device: torch.device, clock: Clock, repeats: int) -> float:
    """A copy that moves as many bytes (half read, half written)."""
    source = torch.ones(nbytes // 2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return min(clock(lambda: target.copy_(source)) for _ in range(repeats))


def contestants(label: str, backends: list[str], x: Tensor, grad: Tensor) -> list[Contestant]:
    spec, theirs = NEURONS[label]
    found = [] if theirs is None else [Contestant("SpikingJelly", theirs().to(x.device), x, grad)]
    for backend in backends:
        module = build_neuron(**spec, backend=backend).to(x.device)
        try:
            module(x.detach())
        except RuntimeError as error:
            print(f"{label}: {error}")
            continue
        found.append(Contestant(backend, module, x, grad))
    return found


def measure(found: list[Contestant], clock: Clock, repeats: int) -> None:
    for contestant in found:
        contestant.weigh()
        for _ in range(2):  # compilation, allocations
            contestant.turn(Clock(contestant.x.device))
        contestant.forward_ms = contestant.backward_ms = contestant.host_ms = float("inf")
    for _ in range(repeats):
        for contestant in found:
            contestant.turn(clock)


HEADER = (
    f"{'neuron':<24}{'backend':<14}{'forward':>9}{'backward':>9}{'both':>9}{'faster':>9}{'of a copy':>14}"
    f"{'host':>8}{'kept MiB':>11}"
)
LEGEND = """
{unit} of one call, the least of {repeats}. faster: than SpikingJelly's node, both passes. of a copy: share of the speed
of a copy that moves the same bytes, forward and backward. host: ms until the host has started both passes (CUDA). kept:
saved for backward, by the neuron and + its input."""


def row(label: str, c: Contestant, rival: Contestant | None, clock: Clock, repeats: int) -> str:
    nbytes = c.x.nbytes
    kept_input = nbytes if c.keeps_input else 0
    moved = [2 * nbytes + c.kept, 2 * nbytes + c.kept + kept_input]  # x, y, bits; grad y, grad x, bits or x
    speed = [
        copy_ms(n, c.x.device, clock, repeats) / ms for n, ms in zip(moved, (c.forward_ms, c.backward_ms), strict=True)
    ]
    cells = [
        f"{label:<24}{c.label:<14}{c.forward_ms:>9.3f}{c.backward_ms:>9.3f}{c.ms:>9.3f}",
        f"{rival.ms / c.ms:>8.1f}x" if rival is not None and c is not rival else f"{'':>9}",
        f"{speed[0]:>8.0%}{speed[1]:>6.0%}" if isinstance(c.module, DynamicNeuron) else f"{'':>14}",
        f"{c.host_ms:>8.3f}" if clock.cuda else f"{'':>8}",
        f"{c.kept / 2**20:>11.2f}{f' + {kept_input / 2**20:.2f}' if c.keeps_input else ''}",
    ]
    return "".join(cells)


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark neurons")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", default="4,2,64,80,80", help="T,B,C,H,W")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--backends", default="", help="comma separated; default: all that the device can have")
    parser.add_argument("--only", default="", help="comma separated names of neurons")
    args = parser.parse_args(arguments)
    device, dtype, shape = (
        torch.device(args.device),
        getattr(torch, args.dtype),
        [int(n) for n in args.shape.split(",")],
    )
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    clock = Clock(device)
    backends = args.backends.split(",") if args.backends else ["torch", "compile"] + ["cupy"] * (device.type == "cuda")
    size = math.prod(shape) * dtype.itemsize / 2**20
    print(
        f"{shape} {args.dtype}, {size:.1f} MiB, {machine(device)}, torch {torch.__version__}, {args.threads} thread(s)"
    )
    print(HEADER)
    x = torch.randn(shape, device=device, dtype=dtype).requires_grad_()
    grad = torch.randn_like(x)
    for label, (spec, _) in NEURONS.items():
        if args.only and spec["name"] not in args.only.split(","):
            continue
        found = contestants(label, backends, x, grad)
        measure(found, clock, args.repeats)
        rival = found[0] if found and found[0].label == "SpikingJelly" else None
        for contestant in found:
            print(row(label, contestant, rival, clock, args.repeats), flush=True)
    channels = shape[2]
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(device, dtype)
    scale = Contestant("", conv, x.detach().flatten(0, 1).requires_grad_(), grad.flatten(0, 1))
    measure([scale], clock, max(2, args.repeats // 3))
    name = f"3x3 convolution, {channels} channels"
    print(f"{name:<38}{scale.forward_ms:>9.3f}{scale.backward_ms:>9.3f}{scale.ms:>9.3f}")
    print(LEGEND.format(unit="device ms" if device.type == "cuda" else "CPU ms", repeats=args.repeats))
