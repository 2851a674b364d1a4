"""Neurons: every backend against SpikingJelly's node, against a copy of the same bytes, and what backward keeps.

    python -m tools.benchmark neurons                                   CPU seconds on one thread
    python -m tools.benchmark neurons --device cuda --shape 4,32,64,160,160 --dtype bfloat16

On a CPU the figures are process CPU seconds, on CUDA device time; both the least of `--repeats`, with all contestants of a
neuron taking turns, so that they meet the same neighbours. The shape has to be several times the last cache.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

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
CONVOLUTION = "3x3 convolution"


class Clock:
    """Milliseconds of one call: CPU seconds of the process, or device time between two events."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"

    def __call__(self, call: Callable[[], object]) -> float:
        if not self.cuda:
            start = time.process_time()
            call()
            return 1e3 * (time.process_time() - start)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
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
    kept: int = 0  # bytes saved for backward besides the input
    keeps_input: bool = False

    def turn(self, clock: Clock) -> None:
        functional.reset_net(self.module)
        self.x.grad = self.y = None
        self.forward_ms = min(self.forward_ms, clock(self._forward))
        self.backward_ms = min(self.backward_ms, clock(lambda: self.y.backward(self.grad)))

    def _forward(self) -> None:
        self.y = self.module(self.x)

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


def measure(label: str, found: list[Contestant], clock: Clock, repeats: int) -> None:
    for contestant in found:
        contestant.weigh()
        for _ in range(2):  # compilation, allocations
            contestant.turn(Clock(contestant.x.device))
        contestant.forward_ms = contestant.backward_ms = float("inf")
    for _ in range(repeats):
        for contestant in found:
            contestant.turn(clock)
            contestant.y = None


def row(label: str, c: Contestant, rival: Contestant | None, clock: Clock, repeats: int) -> str:
    nbytes = c.x.nbytes
    moved = [
        2 * nbytes + c.kept,
        (3 if c.keeps_input else 2) * nbytes + c.kept,
    ]  # x, y, bits; grad y, grad x, bits or x
    share = [
        copy_ms(n, c.x.device, clock, repeats) / ms for n, ms in zip(moved, (c.forward_ms, c.backward_ms), strict=True)
    ]
    ours = isinstance(c.module, DynamicNeuron)
    cells = [
        f"{label:<24}{c.label:<14}{c.forward_ms:>9.3f}{c.backward_ms:>9.3f}{c.ms:>9.3f}",
        f"{rival.ms / c.ms:>9.1f}x" if rival is not None and c is not rival else f"{'':>10}",
        f"{share[0]:>9.0%}{share[1]:>9.0%}" if ours else f"{'':>18}",
        f"{c.kept / 2**20:>10.2f}{' + input' if c.keeps_input else '':<8}",
    ]
    return "".join(cells)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark neurons", description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", default="4,2,64,80,80", help="T,B,C,H,W")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--backends", default="", help="comma separated; default: all that the device can have")
    parser.add_argument("--only", default="", help="comma separated names of neurons")
    args = parser.parse_args(arguments)
    device, shape = torch.device(args.device), [int(n) for n in args.shape.split(",")]
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    backends = (
        args.backends.split(",") if args.backends else ["torch", "compile", *(["cupy"] * (device.type == "cuda"))]
    )
    clock = Clock(device)
    machine = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.processor() or platform.machine()}"
    )
    print(
        f"{shape} {args.dtype}, {torch.tensor(shape).prod().item() * getattr(torch, args.dtype).itemsize / 2**20:.1f} MiB, "
        f"torch {torch.__version__}, {machine}, {args.threads} thread(s), least of {args.repeats}"
    )
    unit = "device ms" if device.type == "cuda" else "CPU ms"
    print(
        f"{'neuron':<24}{'backend':<14}{'forward':>9}{'backward':>9}{'both':>9}{'faster':>10}{'of copy':>9}{'of copy':>9}"
        f"{'kept MiB':>10}    ({unit}; faster than SpikingJelly's node; share of a copy's speed, forward and backward)"
    )
    with contextlib.suppress(KeyboardInterrupt):
        x = torch.randn(shape, device=device, dtype=getattr(torch, args.dtype)).requires_grad_()
        grad = torch.randn_like(x)
        for label in NEURONS:
            if args.only and NEURONS[label][0]["name"] not in args.only.split(","):
                continue
            found = contestants(label, backends, x, grad)
            measure(label, found, clock, args.repeats)
            rival = found[0] if found and found[0].label == "SpikingJelly" else None
            for contestant in found:
                print(row(label, contestant, rival, clock, args.repeats), flush=True)
        T, channels = shape[0] * shape[1], shape[2]
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(device, x.dtype)
        flat = x.detach().flatten(0, 1).requires_grad_()
        scale = Contestant("", conv, flat, grad.flatten(0, 1))
        measure(CONVOLUTION, [scale], clock, max(3, args.repeats // 3))
        print(
            f"{f'{CONVOLUTION}, {T}x{channels}':<38}{scale.forward_ms:>9.3f}{scale.backward_ms:>9.3f}{scale.ms:>9.3f}"
        )
