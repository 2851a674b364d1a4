"""Firing rate of each spiking layer."""

from __future__ import annotations

from torch import Tensor, nn

from neurons import MultiStepNeuron

from .recorder import Recorder


class FiringRates(Recorder):
    """`with FiringRates(model) as firing: model(x)`, then `firing.rates()`.

    The rate of a layer is the share of non-zero outputs, over neurons, images and steps of all calls. Layers that emit
    real values (graded neurons, the activations of ANN twins) are left out.
    """

    def __init__(self, model: nn.Module):
        spiking = {n: m for n, m in model.named_modules() if isinstance(m, MultiStepNeuron) and m.spiking}
        super().__init__(spiking, {"elements": lambda layer, x, y: y.numel(), "nonzero": _nonzero})

    def rates(self) -> dict[str, float]:
        """{layer name: firing rate}, in the order of the network."""
        return {layer: sums["nonzero"] / max(sums["elements"], 1) for layer, sums in self.sums().items()}


def _nonzero(layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Number of non-zero outputs, float64, from the share in float32: rates equal those of earlier versions."""
    return (y.count_nonzero() / max(y.numel(), 1)).double() * y.numel()
