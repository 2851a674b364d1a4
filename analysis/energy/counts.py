"""Counts: everything that a network computes and moves on samples, per layer and image, as energies need it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from models import Detector
from models.deploy.converted import ConvertedNetwork
from models.deploy.pool import AccumulatedMaxPool, GatedMaxPool
from models.layers.step_weights import StepWeights
from models.layers.watch import watch
from models.samplers.base import Sampler
from neurons import MultiStepNeuron

from ..operations import OPERATIONS, Operations
from .layer_facts import Facts, facts_of_layer, facts_of_map, facts_of_neuron
from .maps import MapOperations, columns_of
from .wiring import Wiring

POOLS = (GatedMaxPool, AccumulatedMaxPool)
PARTS = ("encoder", "network", "memory", "head")  # of a detector
Columns = dict[str, Any]  # {quantity: of each image, an array [B]; or the mean, a float}


class Counts(Operations):
    """`with Counts(detector) as counts: detector(x)`, then `counts.layers_counted()`.

    As `Operations`, and of each image also: messages (inputs that are not 0), what neurons emit, the elements of all
    maps that are summed, pooled and upsampled, and how often each layer runs. A detector may also be simulated step by
    step (`models.deploy.simulate`), converted or not. A layer that runs more than once in a pass has a row for each
    use, since the sizes of the maps may differ: `name`, `name#2`, ...

    Args:
        model: in evaluation mode.
        of_batch: called after each batch with its `layers_counted`, whose quantities are then arrays [B], and its T.
    """

    def __init__(self, model: Detector, of_batch: Callable[[list[tuple[Facts, Columns]], int], None] | None = None):
        super().__init__(model)
        self._model: Any = model
        self._of_batch = of_batch
        self.facts: dict[str, Facts] = {}  # {row: what does not depend on the sample}, in the order in which they run
        self.totals_of: dict[str, dict[str, float]] = {}  # {row: {quantity: sum over all images}}
        self.images = self._image_steps = 0
        self.steps = 1  # of an image, the largest seen
        self._now: dict[str, dict[str, Any]] = {}
        self._layers = {module: name for module, name in self._names.items() if name != "images"}
        neurons = {m: n for n, m in model.named_modules() if isinstance(m, MultiStepNeuron)}
        self._watched: dict[Any, str] = {m: n for m, n in neurons.items() if not isinstance(m, Sampler)}
        self._path: list[str] = []
        self._row = ""  # of the running call of a layer
        self.maps = MapOperations(self._after_map)
        self._wiring = Wiring()
        self._once: set[str] = set()  # layers that run once for all steps of a simulation
        self._ordinal: Counter[str] = Counter()
        self._stepped = self._calls = 0  # steps, and calls of the network, of the running batch
        self._stream: Any = None  # the simulation of the running batch
        self._x: Tensor | None = None
        self._encoded = False  # since the last call of the network

    def __enter__(self) -> Self:
        model = self._model
        network = model.network
        parts: list[nn.Module] = [network, *([] if model.memory is None else [model.memory]), model.head]
        if isinstance(network, ConvertedNetwork):
            parts = [network.currents, network.spiking]
        self._handles = []
        once = {n for m, n in self._layers.items() if m in self._in_encoder or n.startswith("network.currents.")}
        self._once = set(map(label, once))
        self._path.clear()
        self._handles.append(self._encoder.register_forward_pre_hook(self._before_encoder))
        for part in parts:
            self._handles += [part.register_forward_pre_hook(self._open), part.register_forward_hook(self._close)]
        whole = [*self._merged.values(), *self._layers, *self._watched]
        for module in dict.fromkeys(whole):  # what is inside them is counted as one
            self._handles += [module.register_forward_pre_hook(self._pause), module.register_forward_hook(self._resume)]
        for name, module in model.named_modules():
            if name and module not in self._layers and module not in self._watched:
                handle = module.register_forward_pre_hook(lambda m, x, name=name: self._path.append(name))
                self._handles += [handle, module.register_forward_hook(lambda m, x, y: self._path.pop() and None)]
        super().__enter__()
        self._seen = watch(self._watched, self._after_any_neuron)
        self._seen.__enter__()
        self.maps.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.maps.__exit__(*exception)
        self._seen.__exit__(*exception)
        super().__exit__(*exception)
        for handle in self._handles:
            handle.remove()
        if exception[0] is None:
            self._end_batch()

    def _before_encoder(self, encoder: nn.Module, inputs: tuple) -> None:
        x, stream, self._encoded = inputs[0], self._running_stream(), True
        if stream is None or stream is not self._stream or x is not self._x:  # else one more step of a simulation
            self._begin_batch(x.shape[1] if x.dim() == 5 else x.shape[0], stream, x)

    def _open(self, module: nn.Module, inputs: tuple) -> None:
        self.maps.paused -= 1
        network = self._model.network
        if module not in (network, *network.children()):  # the memory or the head
            return
        stream = self._running_stream()
        x = inputs[0]
        starts = module is getattr(network, "currents", network)
        if stream is not self._stream if stream is not None else starts and not self._encoded:  # no call of the encoder
            self._begin_batch(x.shape[1], stream, None)
        self._encoded &= not starts
        self._ordinal.clear()
        self._T = len(x)  # of this call: one in a simulation
        if module is not getattr(network, "currents", None):
            self._stepped += self._T
            self._calls += 1

    def _close(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        self.maps.paused += 1

    def _pause(self, module: nn.Module, inputs: tuple) -> None:
        self.maps.paused += 1

    def _resume(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        self.maps.paused -= 1

    def _running_stream(self) -> Any:
        return next((s for neuron in self._neurons if (s := getattr(neuron, "stream", None)) is not None), None)

    def _begin_batch(self, images: int, stream: Any, x: Tensor | None) -> None:
        self._end_batch()
        self._B, self._stream, self._x = images, stream, x

    def _end_batch(self) -> None:
        """Add the batch that has run to the totals."""
        if not self._now or not self._stepped:
            self._now, self._stepped, self._calls = {}, 0, 0
            return
        B, rows = self._B, self.of_batch()
        self.steps = max(self.steps, self._stepped)
        for facts, columns in rows:
            totals = self.totals_of.setdefault(facts.name, defaultdict(float))
            for key, value in columns.items():
                totals[key] += float(value.sum())
        self.images += B
        self._image_steps += B * self._stepped
        if self._of_batch is not None:
            self._of_batch(rows, self._stepped)
        self._now, self._stepped, self._calls = {}, 0, 0
        self._wiring.forget()

    def of_batch(self) -> list[tuple[Facts, Columns]]:
        """(facts, {quantity: array [B]}) of each row, of the batch that is running, so far."""
        B, rows = self._B, []
        for name, facts in self.facts.items():
            if name not in self._now:
                continue
            columns = {
                key: (value.expand(B).cpu().numpy() if isinstance(value, Tensor) else np.full(B, float(value)))
                for key, value in self._now[name].items()
            }
            if "dense_macs" in columns and module_of(name) not in self._once:
                columns["dense_macs"] = columns["dense_macs"] / self._calls
            rows.append((facts, columns))
        return rows

    def _add(self, *args: Any) -> None:
        with _paused(self.maps):
            super()._add(*args)

    def _record(self, facts: Facts, **columns: Any) -> None:
        self.facts.setdefault(facts.name, facts)
        now = self._now.setdefault(facts.name, {})
        for key, value in columns.items():
            now[key] = now.get(key, 0) + value

    def _use(self, module: nn.Module, name: str) -> str:
        """Name of the row of this call."""
        if module in self._in_encoder or module in self._in_steps:  # called once for each window, bin or step
            return name
        self._ordinal[name] += 1
        return name if self._ordinal[name] == 1 else f"{name}#{self._ordinal[name]}"

    def _measure(self, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if layer is not self._encoder:
            self._row = self._use(layer, label(self._names[layer]))
            self._wiring.layer(self._row, y)
        return super()._measure(layer, x, y)

    def _count(self, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found = super()._count(layer, x, y)
        one = self._one.get(layer, layer)
        passes, steps = self._passes(layer, x)
        runs = passes * min(steps, 1.0)
        columns = dict(zip(("real", *OPERATIONS), found.unbind(1), strict=True))
        if self._spiking:
            spikes = (x.float() * max(steps, 1.0)).round().ne(0).float()
            columns["messages"], columns["graded_macs"] = self._spikes(one, spikes, y).unbind(1)
        self._record(facts_of_layer(self._row, one, x, y), runs=runs, **columns)
        return found

    def _after_any_neuron(self, neuron: Any, x: Tensor, y: Tensor) -> None:
        with _paused(self.maps):
            name = self._use(neuron, label(self._watched[neuron]))
            T = len(x) if x.dim() > 2 else 1
            images = y.transpose(0, 1) if y.dim() > 2 and y.shape[1] == self._B else y.unsqueeze(0).expand(1, *y.shape)
            of_image = images.flatten(1) if len(images) == self._B else images.flatten(1).expand(self._B, -1) / self._B
            emitted = of_image.abs().sum(1, dtype=torch.float64)
            real = (of_image - of_image.round()).abs().gt(0).sum(1) if getattr(neuron, "spiking", False) else 1.0
            if isinstance(neuron, POOLS):
                size = neuron.window["kernel_size"]
                size = size**2 if isinstance(size, int) else math.prod(size)
                facts = facts_of_map(name, "max_pool", x, y, T * self._B)
                inputs, outputs = x.numel() / self._B, y.numel() / self._B
                self._record(
                    facts, reads=inputs + size * outputs, reads_once=2 * inputs, writes=inputs + outputs,
                    additions=inputs, comparisons=(size - 1) * outputs, macs=0.0, runs=T,
                )  # fmt: skip
                return
            if isinstance(neuron, StepWeights):  # of a read-out: the sums of each step are weighted
                facts, size = facts_of_map(name, "scale", x, y, T * self._B), y.numel() / self._B
                moved = dict(reads=size, reads_once=size, writes=size, additions=0.0, comparisons=0.0)
                self._record(facts, **moved, macs=size, runs=T)
                return
            facts = facts_of_neuron(name, neuron, x, self._B)
            carried = float(getattr(neuron, "stream", None) is not None)
            self._record(facts, carried=carried, updates=y.numel() / self._B, theta_out=emitted, real=real, runs=T,
                         messages_out=of_image.ne(0).sum(1, dtype=torch.float64))  # fmt: skip
            self._wiring.neuron(name, x, y)

    def _after_map(self, kind: str, inputs: list[Tensor], output: Tensor, args: tuple) -> None:
        if self._wiring.operation(inputs, output, kind == "batch_norm") or kind == "other":
            return
        B = self._B
        columns = {key: value / B for key, value in columns_of(kind, inputs, output, args).items()}
        name = f"{label(self._path[-1] if self._path else 'network')}.{kind}"
        self._ordinal[name] += 1
        name += str(self._ordinal[name]) if self._ordinal[name] > 1 else ""
        steps = output.shape[0] if output.dim() == 5 else max(output.shape[0] // B, 1)
        self._record(facts_of_map(name, kind, inputs[0], output, steps * B), **columns, runs=steps)

    def layers_counted(self) -> list[tuple[Facts, Columns]]:
        """(facts, {quantity: mean over the images}) of each row, in the order in which they run."""
        images = max(self.images, 1)
        return [(self.facts[n], {k: v / images for k, v in t.items()}) for n, t in self.totals_of.items()]

    @property
    def mean_steps(self) -> float:
        """Of an image: less than `steps` where simulations ended early."""
        return self._image_steps / max(self.images, 1)

    def has_bias(self, facts: Facts) -> bool:
        """Whether the layer has a bias once its BatchNorm is folded into it."""
        return facts.biases > 0 or facts.name in self._wiring.normed or module_of(facts.name) in self._merged

    def form(self, facts: Facts) -> str:
        """merged: of a layer that stands for several; as run: of one of these; "" of all others."""
        name = module_of(facts.name)
        return "merged" if name in self._merged else "as run" if name in self._parts else ""

    def in_place(self, neuron: str) -> bool:
        """Whether the sums of a convolution are the membrane of this neuron: it alone takes its output, each step."""
        source = self._wiring.into.get(neuron)
        if source is None or source in self._wiring.shared:
            return False
        known = self.totals_of if source in self.totals_of else self._now  # in the first batch
        return float(known[source]["runs"]) == float(known[neuron]["runs"])

    def state(self) -> dict[str, Any]:
        """What the processes of an evaluation exchange."""
        self._end_batch()
        totals = {name: dict(of_row) for name, of_row in self.totals_of.items()}
        return {
            "facts": self.facts, "totals": totals, "images": self.images, "steps": self.steps,
            "image_steps": self._image_steps, "wiring": self._wiring.state(), "excluded": self.maps.excluded,
        }  # fmt: skip

    def merge_states(self, states: Iterable[dict[str, Any]]) -> None:
        """Replace the counts by the total of `states`: the `state()` of all processes, this one's among them."""
        self.images, self._image_steps, totals = 0, 0, {}  # type: ignore[var-annotated]
        excluded: Counter[str] = Counter()
        for state in states:
            self.facts = {**state["facts"], **self.facts}
            self.images += state["images"]
            self.steps = max(self.steps, state["steps"])
            self._wiring.merge(state["wiring"])
            self._image_steps += state["image_steps"]
            excluded.update(state["excluded"])
            for name, of_row in state["totals"].items():
                known = totals.setdefault(name, {})
                for key, value in of_row.items():
                    known[key] = known.get(key, 0.0) + value
        self.totals_of, self.maps.excluded = totals, excluded


def label(name: str) -> str:
    """Name of a module in rows: that of a layer in a converted network is its name in the source."""
    for part in ("network.currents.", "network.spiking."):
        if name.startswith(part):
            source = name.removeprefix(part).removesuffix(".layer")
            return source if source.partition(".")[0] in PARTS else f"network.{source}"  # a function of the source
    return "network" if name == "network.spiking" else name


def module_of(row: str) -> str:
    """The layer of a row, without the number of its use."""
    return row.partition("#")[0]


@contextmanager
def _paused(maps: MapOperations) -> Iterator[None]:
    maps.paused += 1
    try:
        yield
    finally:
        maps.paused -= 1
