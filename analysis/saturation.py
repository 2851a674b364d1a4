"""Membranes of each neuron layer against the window in which it passes a gradient on: shares outside, histograms."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from neurons import DynamicNeuron, MultiStepNeuron
from neurons.window import membrane, threshold, window

from .recorder import Recorder

BINS = 60  # of a histogram
WIDEST = 15.0  # thresholds; in units of a learned one near 0 the window of a surrogate has any width
NAMES = ("dead", "inside", "saturated", "dead_channels", "firing_rate")


@dataclass(frozen=True)
class Histogram:
    """Of the membranes H of a layer, in units of its threshold.

    counts: of bins of equal width from `low` to `high`; the first and the last one also have what lies beyond.
    window: the ends of the window in which the gradient passes, of both signs of a ternary neuron. inside: the share of
    H in it. fires: where the neuron begins to fire; of activations nowhere.
    """

    counts: list[float]
    low: float
    high: float
    window: tuple[float, ...]
    inside: float
    fires: tuple[float, ...]


class Saturation(Recorder):
    """`with Saturation(model) as saturation: model(x)`, then `saturation.shares()` and, if asked for, `.histograms()`.

    Of every neuron that has a window (`neurons.window`), by its membrane H before the reset, which decides, not by its
    input alone. For the input of a call H starts from the initial state, so within a `neurons.Stream` only the first
    call of a recording counts rightly.

    Args:
        calls: of each layer, the first ones are measured: H is computed again for them. None: all.
        histograms: count H in bins, from two thresholds below rest to one above the widest window of the network,
            at most 16.
    """

    def __init__(self, model: nn.Module, calls: int | None = None, histograms: bool = False):
        neurons = {n: m for n, m in model.named_modules() if isinstance(m, MultiStepNeuron) and window(m) is not None}
        ends = [end for layer in neurons.values() for end in _ends(layer) if end < math.inf]
        self._high = high = 1 + min(max([2.0, *ends]), WIDEST)
        self._low = low = -high if any(min(_fires(layer), default=0) < 0 for layer in neurons.values()) else -2.0
        of_bins = {"histogram": partial(_histogram, low, high)} if histograms else {}
        super().__init__(neurons, {"counts": _counts, **of_bins})
        self._neurons = neurons
        self._left: Counter[nn.Module] = Counter(dict.fromkeys(neurons.values(), calls or 1 << 62))

    def _add(self, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        if self._left[layer] > 0:
            super()._add(layer, membrane(layer, x), y)
        self._left[layer] -= 1

    def shares(self) -> dict[str, dict[str, float]]:
        """{layer: shares}, in the order of the network:

        dead            of elements with H below the window, of ternary neurons with |H| below it: they do not fire, and
                        no gradient reaches what is before them, unless the surrogate has one outside its window
        inside          of those within it
        saturated       of those above it
        dead_channels   of channels all of whose elements are dead, in all images and steps
        firing_rate     of outputs that are not 0
        """
        return {layer: _shares(torch.tensor(sums["counts"])) for layer, sums in self.sums().items()}

    def histograms(self) -> dict[str, Histogram]:
        """{layer: `Histogram` of H}, all over the same values, in the order of the network."""
        found = {}
        for name, sums in self.sums().items():
            layer, inside = self._neurons[name], _shares(torch.tensor(sums["counts"]))["inside"]
            found[name] = Histogram(sums["histogram"], self._low, self._high, _ends(layer), inside, _fires(layer))
        return found


def _ends(layer: nn.Module) -> tuple[float, ...]:
    """The ends of the window, in units of the threshold."""
    lower, upper, symmetric = cast(tuple, window(layer))
    ends = [float(end) / float(threshold(layer)) for end in (lower, upper)]
    return (-ends[1], -ends[0], *ends) if symmetric else (ends[0], ends[1])


def _fires(layer: nn.Module) -> tuple[float, ...]:
    """Where a neuron begins to fire, in units of the threshold; none of activations."""
    d = layer.dynamics if isinstance(layer, DynamicNeuron) else None
    if d is None or d.emit not in ("binary", "integer", "ternary"):
        return ()
    return (-d.negative, 1.0) if d.emit == "ternary" else (1.0,) if d.emit == "binary" else (0.5,)


def _histogram(low: float, high: float, layer: nn.Module, h: Tensor, y: Tensor) -> Tensor:
    """float64 [BINS]: elements of H in each bin from `low` to `high` thresholds."""
    inside = (h.float() / threshold(layer)).clamp(low, high)
    return torch.histc(inside, BINS, low, high).double()


def _counts(layer: nn.Module, h: Tensor, y: Tensor) -> Tensor:
    """[4, C] float64: elements of each channel, those below and above the window, and outputs that are not 0."""
    lower, upper, symmetric = cast(tuple, window(layer))
    h = h.abs() if symmetric else h
    axis = 2 if h.dim() > 2 else -1
    others = tuple(i for i in range(h.dim()) if i != axis % h.dim())
    masks = torch.ones_like(y, dtype=torch.bool), h < lower, h > upper, y != 0
    return torch.stack([mask.sum(others) for mask in masks]).double()


def _shares(counts: Tensor) -> dict[str, float]:
    elements, below, above, fired = counts
    total = max(float(elements.sum()), 1.0)
    dead, saturated, rate = (float(part.sum()) / total for part in (below, above, fired))
    channels = float((below == elements).double().mean())
    return dict(zip(NAMES, (dead, 1 - dead - saturated, saturated, channels, rate), strict=True))
