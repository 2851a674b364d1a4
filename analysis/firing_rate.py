"""How often each spiking layer fires."""

from __future__ import annotations

from spikingjelly.activation_based.monitor import OutputMonitor
from torch import Tensor, nn

from neurons import MultiStepNeuron


class FiringRates:
    """`with FiringRates(model) as firing: model(x)`, then `firing.rates()`.

    The rate of a layer is the share of non-zero outputs per neuron, picture and step, averaged over all calls. Layers
    that emit real values (graded neurons, the activations of ANN twins) are left out.
    """

    def __init__(self, model: nn.Module):
        self.spiking = [n for n, m in model.named_modules() if isinstance(m, MultiStepNeuron) and m.spiking]
        self.monitor = OutputMonitor(model, MultiStepNeuron, _share_of_nonzero)

    def __enter__(self) -> FiringRates:
        return self

    def __exit__(self, *exception: object) -> None:
        self.monitor.close()

    def rates(self) -> dict[str, float]:
        """{layer name: mean firing rate}, in the order of the network."""
        sums = {}
        for name in self.spiking:
            records = self.monitor[name]
            if records:
                total = sum(count for _, count in records)
                sums[name] = sum(float(share) * count for share, count in records) / total
        return sums


def _share_of_nonzero(y: Tensor) -> tuple[Tensor, int]:
    """(share of non-zero elements, number of elements); left on the device, so that no layer waits for it."""
    return y.count_nonzero() / max(y.numel(), 1), y.numel()
