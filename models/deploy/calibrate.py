"""Calibration: the activation scales of an ANN, as percentiles of its activations on given images, in one pass."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from neurons import DynamicNeuron
from registry import UserError, none_of

from ..detector import Detector
from ..layers.watch import watch
from .graph import activations, readouts, trace
from .histogram import LogHistogram
from .scales import ScaleTable

STATISTICS = ("all", "per_image_max")
GRANULARITIES = ("channel", "layer")
LEARNED = ("qcfs", "sth")  # activations whose bound is a threshold
FLOOR = 1e-3  # of the layer's largest scale: the least scale of a channel


@torch.no_grad()
def calibrate(
    model: nn.Module,
    batches: Iterable[Tensor],
    percentile: float = 99.9,
    statistic: str = "all",
    granularity: str = "channel",
    readout: bool = False,
) -> ScaleTable:
    """{activation layer: lam [C]}, the scales for `normalise` and `convert`, in the order the layers run.

    lam is the percentile of |a| over the data, as `torch.quantile` defines it, to the bins of a histogram
    (`LogHistogram`: at most 0.8 % too large; the percentile 100 is the exact maximum). All values count equally,
    however they are batched; memory does not depend on their number. Channels that are never or rarely active get
    1e-3 of the layer's largest scale at least. Where the percentile is 0 in all channels of a layer, its maxima are
    taken, and where these are 0 as well, 1. The scale of an activation with a threshold (qcfs, sth) is this
    threshold, not a percentile.

    Rueckauer et al., 2017 (percentiles per layer); Spiking-YOLO (Kim et al., AAAI 2020; per channel). Differs from the
    Spiking YOLOv3 code, whose percentile 99.999 is of the last batches and of augmented images.

    Args:
        model: the ANN, which is not changed; a `Detector`, or a module on [B, C, H, W] (`trace`).
        batches: its inputs, as the x of a dataset's batches, read once: images of training, without augmentation.
        percentile: in (0, 100].
        statistic: "all": of all activations (every image, step and position) of the channel, of which 99.9 % leaves out
            173 positions of a map of 416 x 416, where small objects may be; "per_image_max": of the maxima of each
            image, or event frame.
        granularity: "channel", or "layer": one scale for all channels of a layer.
        readout: also scales of the layers that give the logits, which a read-out by spike counts needs.

    UserError for arguments outside these, no batches, and activations that are not finite.
    """
    if not 0 < percentile <= 100:
        raise UserError(f"percentile = {percentile}: give a number above 0 and at most 100, as 99.9")
    for name, value, known in (("statistic", statistic, STATISTICS), ("granularity", granularity, GRANULARITIES)):
        if value not in known:
            raise UserError(none_of(f"{name} = {value!r}", value, known))
    source = copy.deepcopy(model).eval()
    graph = trace(source)
    layers = activations(graph) | (readouts(graph) if readout else {})
    seen = {name: _Layer(layer, statistic, granularity) for name, layer in layers.items()}
    of_module = {layer: seen[name] for name, layer in layers.items()}
    images = 0
    with watch(layers.values(), lambda layer, x, y: of_module[layer].add(y)):
        for i, x in enumerate(batches):
            x = model_input(source, x)
            graph(x)
            images += x.shape[:-3].numel()
            _require_finite(seen, i)
    if not images:
        raise UserError("batches: no images to calibrate on; give at least one batch of the model's inputs")
    scales = {name: layer.scales(percentile) for name, layer in seen.items()}
    clipped = {name: layer.share_above(scales[name]) for name, layer in seen.items() if not layer.has_threshold}
    origin: dict[str, str | int | float] = {
        "images": images,
        "statistic": statistic,
        "percentile": float(percentile),
        "granularity": granularity,
    }
    return ScaleTable(scales, origin, clipped)


class _Layer:
    """What calibration keeps of a layer: a histogram of its output, or its threshold."""

    def __init__(self, layer: nn.Module, statistic: str, granularity: str):
        self.layer = layer
        self.has_threshold = isinstance(layer, DynamicNeuron) and layer.dynamics.emit in LEARNED
        self.per_image, self.per_layer = statistic == "per_image_max", granularity == "layer"
        self.channels = 0
        self.finite: Tensor | None = None  # bool, 0-d, on the layer's device
        self.histogram: LogHistogram | None = None

    def add(self, y: Tensor) -> None:
        y = by_channel(y)
        self.channels = y.shape[1]
        finite = y.isfinite().all()
        self.finite = finite if self.finite is None else self.finite & finite
        if self.has_threshold:
            return
        if self.histogram is None:
            self.histogram = LogHistogram(1 if self.per_layer else self.channels, y.device)
        if self.per_image:
            y = y.abs().amax((1, 2) if self.per_layer else 2).view(len(y), -1, 1)
        self.histogram.add(y)

    def scales(self, percentile: float) -> Tensor:
        """lam [C]."""
        if self.histogram is None:
            return _threshold(self.layer).expand(self.channels)
        lam = self.histogram.percentile(percentile)
        if not lam.any():
            lam = self.histogram.maximum
        lam = torch.maximum(lam, FLOOR * lam.max()) if lam.any() else torch.ones_like(lam)
        return lam.expand(self.channels)

    def share_above(self, lam: Tensor) -> float:
        """The share of the values in the histogram that exceed lam [C]."""
        assert self.histogram is not None
        return self.histogram.share_above(lam[:1] if self.per_layer else lam)


def by_channel(y: Tensor) -> Tensor:
    """[..., C, H, W] -> [N, C, H * W]; vectors [..., C] -> [N, C, 1]."""
    return y.flatten(-2).flatten(0, -3) if y.ndim > 3 else y.flatten(0, -2).unsqueeze(-1)


def _threshold(neuron: nn.Module) -> Tensor:
    """0-d or [C]."""
    assert isinstance(neuron, DynamicNeuron)
    learned = neuron.learned_threshold()
    return torch.tensor(neuron.dynamics.v_threshold) if learned is None else learned


def model_input(model: nn.Module, x: Any) -> Tensor:
    """What the graph of `model` takes. Steps that are all the same are one step."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        what = f"of {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise UserError(
            f"batches: {what}; give the inputs of the model, float tensors: (batch.to(device)[0] for batch in loader)"
        )
    weight = next(model.parameters(), x)
    x = x.to(weight.device, weight.dtype)
    if not isinstance(model, Detector):
        return x
    return model.encode_step(x, 0) if model.constant_input(x) else model.encode(x)


def _require_finite(seen: dict[str, _Layer], batch: int) -> None:
    """One wait for the device per batch."""
    flags = [layer.finite for layer in seen.values() if layer.finite is not None]
    if not flags or torch.stack(flags).all():
        return
    name = next(name for name, layer in seen.items() if layer.finite is not None and not layer.finite)
    raise UserError(
        f"batch {batch}: activations of {name} are not finite: an input that is not finite, or weights that diverged"
    )
