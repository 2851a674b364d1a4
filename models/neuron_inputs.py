"""The inputs of a network's neurons: which BatchNorms they come from, and the values that a batch gives them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from neurons import MultiStepNeuron

from .detector import Detector
from .layers.ffc import ReflectPad
from .layers.running_statistics import frozen_norms
from .layers.step_weights import StepWeights

# Layers that hand on a constant added to their input, and a positive factor of it.
TRANSPARENT = (nn.Identity, nn.MaxPool2d, nn.AvgPool2d, nn.Upsample, nn.ZeroPad2d, ReflectPad)


@dataclass
class NeuronInput:
    """The input of one neuron.

    name: of the neuron in the detector.
    norms: the BatchNorms whose output reaches it through sums, concatenations, pooling and upsampling alone, and
        reaches no neuron that runs before. Where a residual stream feeds several neurons, those added since the last.
    alone: whether `norms` is one layer, whose output it is element by element: mean and standard deviation then are
        bias and gain, whatever the layers before do.
    """

    name: str
    neuron: MultiStepNeuron
    norms: list[Any]
    alone: bool


def neuron_inputs(model: Detector, x_TBCHW: Tensor) -> list[NeuronInput]:
    """The inputs of all neurons of network and head that run for x [T, B, C, H, W], in the order they run.

    Found in autograd's graph of one image: no part has to declare anything.
    """
    sources: dict[Any, nn.Module | None] = {}  # node of autograd: the BatchNorm that made it; None: another layer
    sizes: dict[nn.Module, int] = {}
    found: list[NeuronInput] = []
    used: set[nn.Module] = set()

    def made(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.grad_fn is not None and output is not inputs[0]:
            sources[output.grad_fn] = layer if _fittable(layer) else None
            sizes[layer] = output.numel()

    def reached(neuron: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if all(neuron is not other.neuron for other in found):
            norms, others = _walk(inputs[0].grad_fn, sources)
            new = [norm for norm in norms if norm not in used]
            used.update(norms)
            alone = len(norms) == len(new) == 1 and not others and sizes[new[0]] == inputs[0].numel()
            found.append(NeuronInput(names[neuron], neuron, new, alone))  # type: ignore[index, arg-type]

    names = {m: name for name, m in _parts(model) if isinstance(m, MultiStepNeuron) and not isinstance(m, StepWeights)}
    with ExitStack() as hooks:
        for _, layer in _parts(model):
            if layer in names:
                hooks.callback(layer.register_forward_pre_hook(reached).remove)
            if layer in names or not (isinstance(layer, TRANSPARENT) or any(layer.children())):
                hooks.callback(layer.register_forward_hook(made).remove)
        with torch.enable_grad(), mode(model, norms_training=False):
            model.logits(x_TBCHW[:, :1].detach().requires_grad_())
    return found


def _parts(model: Detector) -> Iterator[tuple[str, nn.Module]]:
    for part in ("network", "head"):
        yield from getattr(model, part).named_modules(prefix=part)


def _fittable(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and layer.affine and layer.weight.requires_grad and layer.bias.requires_grad


def _walk(node: Any, sources: dict[Any, nn.Module | None]) -> tuple[list[nn.Module], bool]:
    """(BatchNorms, whether there is anything else) from which autograd's `node` comes, back to the nearest layers."""
    norms: dict[nn.Module, None] = {}
    others, seen, waiting = False, set(), [node]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in sources:
            layer = sources[node]
            others |= layer is None
            norms |= {} if layer is None else {layer: None}
        else:
            following = [parent for parent, _ in node.next_functions if parent is not None]
            others |= not following  # the input of the network
            waiting += following
    return list(norms), others


@contextmanager
def mode(model: nn.Module, norms_training: bool) -> Iterator[None]:
    """Within: evaluation mode, but for BatchNorms that are not frozen, in training mode where `norms_training`."""
    before, frozen = {m: m.training for m in model.modules()}, set(frozen_norms(model))
    try:
        model.eval()
        for m in before:
            m.training = norms_training and isinstance(m, _BatchNorm) and m not in frozen
        yield
    finally:
        for m, training in before.items():
            m.training = training


class _Reached(Exception):
    pass


def input_of(model: Detector, neuron: nn.Module, x_TBCHW: Tensor) -> Tensor:
    """The input [T, B, C, H, W] of `neuron` for x; layers after it do not run."""
    got: list[Tensor] = []

    def stop(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        got.append(inputs[0])
        raise _Reached

    handle = neuron.register_forward_pre_hook(stop)
    try:
        model.logits(x_TBCHW)
    except _Reached:
        pass
    finally:
        handle.remove()
    return got[0]
