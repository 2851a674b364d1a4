"""Fit BatchNorm gains and biases to the first batches, so that every neuron's input lies in its range.

Data-dependent initialisation, layer by layer in the order of the network: Mishkin and Matas, "All You Need Is a Good
Init" (LSUV), ICLR 2016; Salimans and Kingma, "Weight Normalization", NeurIPS 2016. Differs from both in what is fitted:
they scale weights of convolutions for unit variance, here gain and bias of the BatchNorms before a neuron put its input
at a mean and standard deviation that follow from its threshold, as do the gains of tdBN (Zheng et al., "Going Deeper
With Directly-Trained Larger Spiking Neural Networks", AAAI 2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurons import MultiStepNeuron
from registry import UserError

from .detector import Detector
from .layers.running_statistics import kept_running_statistics
from .layers.watch import watch
from .neuron_inputs import NeuronInput, input_of, mode, neuron_inputs

BRANCH = 0.2  # least deviation of a residual branch, as a share of that of its sum: EMS-YOLO's for its last BatchNorms


class Target(NamedTuple):
    """Wanted inputs of all neurons: mean and standard deviation, as shares of a neuron's range; in tdBN mean 0 and the
    threshold. A neuron of both signs has mean 0; one without a range has mean 0 and standard deviation 1."""

    mean: float = 0.25
    std: float = 0.25
    tdbn: bool = False

    @classmethod
    def parse(cls, value: Any) -> Target:
        """From [mean, std], or "tdbn"."""
        if value == "tdbn":
            return cls(tdbn=True)
        if isinstance(value, Sequence) and len(value) == 2 and all(isinstance(v, int | float) for v in value):
            mean, std = map(float, value)
            if math.isfinite(mean) and 0 < std < math.inf:
                return cls(mean, std)
        raise UserError(f"fit_target = {value!r}: give [mean, standard deviation], the second above 0, or tdbn")

    def of(self, neuron: MultiStepNeuron) -> tuple[float, float]:
        """(mean, standard deviation) of its input."""
        if (extent := neuron.input_range()) is None:
            return 0.0, 1.0
        if self.tdbn:
            return 0.0, extent.threshold
        width = extent.high - extent.low
        return 0.0 if extent.low < 0 else self.mean * width, self.std * width


DEFAULT = Target(tdbn=True)  # as good as [0.25, 0.25] and cheaper: docs/gap.md


@torch.no_grad()
def fit_neurons(model: Detector, batches: Sequence[Tensor], target: Target = DEFAULT) -> list[str]:
    """Fit gain and bias of BatchNorms of `model`, in place, to `batches` of a dataset. Returns lines for the user.

    For each neuron in the order they run: x = r + g b + c e is its input, b the part that comes from its own
    BatchNorms (`neuron_inputs`), r the rest, e the change of x if their biases grow by 1. Gain g and bias c are those
    at which the channels of b have the wanted mean and standard deviation. All BatchNorms of one neuron share g
    and c, so that channels keep their proportions, as those of `train.init_from`. Where r, a residual stream, has that
    deviation already, b keeps a share `BRANCH` of it.

    Neurons without a BatchNorm of their own read what another neuron reads. Running statistics stay as they are, and so
    do frozen BatchNorms (`requires_grad` false).
    """
    with mode(model, norms_training=True), kept_running_statistics(model):
        steps = [model.encode(x) for x in batches]
        found = neuron_inputs(model, steps[0])
        before = observe(model, found, steps)
        # All those of one BatchNorm at once, and again where neurons that did not fire before now do.
        _fit_alone(found, before, target)
        _fit_alone(found, observe(model, found, steps), target)
        for one in found:
            if one.norms and not one.alone:
                _fit_sum(model, one, steps, target)
        after = observe(model, found, steps)
    return _text(found, before, after)


def _fit_alone(found: Sequence[NeuronInput], seen: Mapping[str, Observed], target: Target) -> None:
    for one in found:
        if one.alone:
            mean, std = seen[one.name].moments()
            _change(one, target, std, mean, rest=(0.0, 0.0, 0.0), shift=1.0)


def _fit_sum(model: Detector, one: NeuronInput, steps: Sequence[Tensor], target: Target) -> None:
    sums = torch.zeros(6, dtype=torch.float64)
    shift = 1.0
    for i, x in enumerate(steps):
        with _set(one, weight=0.0, bias=0.0):
            rest = input_of(model, one.neuron, x)
        if i == 0:
            with _set(one, weight=0.0, bias=1.0):
                response = (input_of(model, one.neuron, x) - rest).mean((0, 1, 3, 4))
            channels = response > 0.5
            shift = float(response[channels].mean())
        own = (input_of(model, one.neuron, x) - rest)[:, :, channels].double()
        rest = rest[:, :, channels].double()
        parts = (rest, own, rest * rest, rest * own, own * own)
        sums += torch.stack([*(part.sum() for part in parts), own.new_tensor(own.numel())]).cpu()
    r, b, rr, rb, bb = (sums[:5] / sums[5]).tolist()
    own_std = math.sqrt(max(bb - b * b, 0.0))
    _change(one, target, own_std, b, rest=(r, rr - r * r, rb - r * b), shift=shift)


def _change(
    one: NeuronInput, target: Target, own_std: float, own_mean: float, rest: tuple[float, float, float], shift: float
) -> None:
    """rest: (mean, variance, covariance with the own part) of what is not changed."""
    mean, std = target.of(one.neuron)
    rest_mean, rest_var, covariance = rest
    gain = 1.0
    if own_std > 1e-6 * std:  # else the input is constant, as that of a window without events
        # own_std^2 g^2 + 2 covariance g + rest_var = std^2
        root = covariance**2 - own_std**2 * (rest_var - std**2)
        gain = max((math.sqrt(max(root, 0.0)) - covariance) / own_std**2, BRANCH * std / own_std)
    bias = (mean - rest_mean - gain * own_mean) / shift
    for norm in one.norms:
        norm.weight.mul_(gain)
        norm.bias.mul_(gain).add_(bias)


@contextmanager
def _set(one: NeuronInput, weight: float, bias: float) -> Iterator[None]:
    kept = [(norm.weight.clone(), norm.bias.clone()) for norm in one.norms]
    try:
        for norm in one.norms:
            norm.weight.fill_(weight)
            norm.bias.fill_(bias)
        yield
    finally:
        for norm, (w, b) in zip(one.norms, kept, strict=True):
            norm.weight.copy_(w)
            norm.bias.copy_(b)


class Observed:
    """Sums over the elements of a neuron's input: count, sum, sum of squares, elements below and above its range."""

    def __init__(self) -> None:
        self.sums = torch.zeros(5, dtype=torch.float64)

    def add(self, neuron: MultiStepNeuron, x: Tensor) -> None:
        extent = neuron.input_range()
        low, high = (-math.inf, math.inf) if extent is None else extent[:2]
        parts = (x.new_tensor(x.numel()), x, x.square(), x < low, x > high)
        self.sums += torch.stack([part.sum(dtype=torch.float64) for part in parts]).cpu()

    def moments(self) -> tuple[float, float]:
        """(mean, standard deviation) of all elements."""
        count, total, squares = self.sums[:3].tolist()
        return total / count, math.sqrt(max(squares / count - (total / count) ** 2, 0.0))

    def outside(self) -> tuple[float, float]:
        """Shares of elements (below, above) the neuron's range."""
        count, _, _, below, above = self.sums.tolist()
        return below / count, above / count


def observe(model: Detector, found: Sequence[NeuronInput], steps: Sequence[Tensor]) -> dict[str, Observed]:
    """{name of the neuron: what its input is} over `steps`, each [T, B, C, H, W]."""
    names = {one.neuron: one.name for one in found}
    seen = {one.name: Observed() for one in found}
    with watch(names, lambda neuron, x, _: seen[names[neuron]].add(neuron, x)):  # type: ignore[arg-type, index]
        for x in steps:
            model.logits(x)
    return seen


def _text(found: list[NeuronInput], before: dict[str, Observed], after: dict[str, Observed]) -> list[str]:
    ranged = [one.name for one in found if one.neuron.input_range() is not None]
    fitted = sum(bool(one.norms) for one in found)
    line = f"fit_neurons: the inputs of {fitted} of {len(found)} neurons fitted; the others share theirs or are frozen"
    if not ranged:
        return [line]
    shares = []
    for seen in (before, after):
        below, above = (100 * sum(seen[name].outside()[i] for name in ranged) / len(ranged) for i in (0, 1))
        shares.append(f"{below:.0f} % below, {above:.0f} % above")
    return [line, f"inputs outside the range of their neuron, mean of layers: {shares[0]}; now {shares[1]}"]
