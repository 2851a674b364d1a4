"""What the layers of a network do in an evaluation during training, as tags of TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Self

from torch import Tensor, nn

from analysis.closing import ClosingTimes
from analysis.firing_rate import FiringRates
from analysis.layer_images import firing_image, membrane_image
from analysis.learned_values import learned_values
from analysis.local_saturation import LocalSaturation
from analysis.recorder import Recorder
from analysis.saturation import Saturation
from analysis.spike_times import SpikeTimes
from data.sample import Batch

from . import distributed
from .evaluation import Detections, Predict

SIGNS = {"+1": "positive", "0": "zero", "-1": "negative"}  # a tag has no sign


class Inspection:
    """`with Inspection(model, closely) as seen: evaluate(seen.first(predict), ...)`, then `seen.merge()`.

    Firing rates are those of all samples of all ranks. The others are of the first batch, which rank 0 has, and need
    `closely`: shares of dead and saturated neurons, membranes, when layers fire, and saturation on objects.
    """

    def __init__(self, model: nn.Module, closely: bool = True):
        self.model, self.closely = model, closely
        self.firing, self.closing = FiringRates(model), ClosingTimes(model)
        self.saturation = Saturation(model, calls=1, histograms=True)
        self.times, self.local = SpikeTimes(model), LocalSaturation(model, [], (1, 1))
        self._entered, self._first = ExitStack(), closely and distributed.is_main()

    def __enter__(self) -> Self:
        for recorder in (self.firing, self.closing):
            self._entered.enter_context(recorder)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._entered.close()

    def first(self, predict: Predict) -> Predict:
        """`predict`, whose first call is inspected."""

        def predicting(x: Tensor, batch: Batch) -> Iterable[Detections]:
            if not self._first:
                return predict(x, batch)
            self._first = False
            boxes = [None if target is None else target["boxes"] for target in batch.targets]
            self.local = LocalSaturation(self.model, boxes, (x.shape[-2], x.shape[-1]))
            with self.saturation, self.times, self.local:
                return predict(x, batch)

        return predicting

    def merge(self) -> None:
        """Take the sums of all ranks."""
        recorders: tuple[Recorder, ...] = (self.firing, self.closing)
        for recorder in recorders:
            recorder.merge(distributed.gather(recorder.sums()))

    def scalars(self) -> dict[str, float]:
        """{tag: value}. `val_spikes/` has means over the layers, and in `val_layers/` each layer has its own; they come
        with what is inspected `closely`."""
        rates = self.firing.rates()
        found: dict[str, dict[str, float]] = {"firing_rate": rates}
        scalars = {"lowest_firing_rate": min(rates.values())} if rates else {}
        if self.closely:
            for layer, shares in self.saturation.shares().items():
                for name in ("dead", "saturated"):
                    found.setdefault(name, {})[layer] = shares[name]
            for layer, shares in self.local.shares().items():
                for name, share in shares.items():
                    found.setdefault(f"local_saturation_{name}", {})[layer] = share
        scalars |= {name: _mean(of_layers) for name, of_layers in found.items() if of_layers}
        if self.closely:
            for layer, shares in self.firing.shares().items():
                for value, share in shares.items():
                    found.setdefault(f"spikes_{SIGNS[value]}", {})[layer] = share
            found |= learned_values(self.model)
        layers = {f"{name}/{layer}": v for name, of_layers in found.items() for layer, v in of_layers.items()}
        return (
            {f"val_spikes/{name}": value for name, value in scalars.items()}
            | {f"val_layers/{name}": value for name, value in layers.items() if self.closely}
            | {
                f"val_closing/{frame}/{name}".replace(" ", "_"): share
                for frame, shares in self.closing.shares().items()
                for name, share in shares.items()
            }
        )

    def images(self) -> dict[str, Tensor]:
        """{tag: uint8 [3, H, W]}: firing of each layer over time, and membranes against the threshold."""
        rates, histograms = self.times.rates(), self.saturation.histograms()
        found = {"firing": firing_image(rates)} if rates else {}
        found |= {"membranes": membrane_image(histograms)} if histograms else {}
        return {f"val_layers_pictures/{name}": image for name, image in found.items()}


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)
