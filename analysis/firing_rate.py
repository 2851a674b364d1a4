"""Firing rate of each spiking layer, and of ternary ones the shares of +1, 0 and -1."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from models import Detector
from neurons import MultiStepNeuron

from .recorder import Recorder

Shares = dict[str, dict[str, float]]  # {layer: {"+1": share, "0": share, "-1": share}}


class FiringRates(Recorder):
    """`with FiringRates(model) as firing: model(x)`, then `firing.rates()` and `firing.shares()`.

    The rate of a layer is the share of non-zero outputs, over neurons, images and steps of all calls. Layers that emit
    real values (graded neurons, the activations of ANN twins) are left out.
    """

    def __init__(self, model: nn.Module):
        spiking = spiking_layers(model)
        self._signed = {name: layer.signed for name, layer in spiking.items()}
        elements = {"elements": lambda layer, x, y: y.numel(), "nonzero": _nonzero, "negative": _negative}
        super().__init__(spiking, elements)

    def rates(self) -> dict[str, float]:
        """{layer name: firing rate}, in the order of the network."""
        return {layer: sums["nonzero"] / max(sums["elements"], 1) for layer, sums in self.sums().items()}

    def shares(self) -> Shares:
        """{layer name: shares of outputs above, at and below 0}, of the layers that can emit negative spikes.

        Layers of which that is not known (`MultiStepNeuron.signed`) are among them if they did.
        """
        return {
            layer: shares(sums["nonzero"], sums["negative"], sums["elements"])
            for layer, sums in self.sums().items()
            if has_signs(self._signed[layer], sums["negative"])
        }


def spiking_layers(model: nn.Module) -> dict[str, MultiStepNeuron]:
    """{name: neuron} of all layers that emit spikes, in the order of the network."""
    if isinstance(model, Detector):
        return model.spiking_layers()
    return {n: m for n, m in model.named_modules() if isinstance(m, MultiStepNeuron) and m.spiking}


def has_signs(signed: bool | None, negative: float) -> bool:
    """Whether a layer is one of those with shares; `negative`: the negative spikes that it emitted."""
    return bool(signed) or signed is None and negative > 0


def shares(spikes: float, negative: float, outputs: float) -> dict[str, float]:
    """Shares of +1, 0 and -1 among `outputs`, with `spikes` of both signs, of which `negative` are below 0."""
    outputs = max(outputs, 1)
    return {"+1": (spikes - negative) / outputs, "0": 1 - spikes / outputs, "-1": negative / outputs}


def _nonzero(layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Number of non-zero outputs, float64, from the share in float32: rates equal those of earlier versions."""
    return (y.count_nonzero() / max(y.numel(), 1)).double() * y.numel()


def _negative(layer: nn.Module, x: Tensor, y: Tensor) -> Tensor | float:
    return 0.0 if cast(MultiStepNeuron, layer).signed is False else (y < 0).sum()
