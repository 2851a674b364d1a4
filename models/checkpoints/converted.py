"""Checkpoints of converted detectors: their entry `conversion`, and the detector that is built from it."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from registry import UserError, none_of

from ..contracts import Encoder
from ..deploy import ConvertedDetector, ScaleTable, convert
from ..deploy.bias import add_bias
from ..detector import Detector
from ..encoders import BernoulliEncoder, DirectEncoder, LatencyEncoder
from .plain import check_plain

ENCODERS = {"direct": DirectEncoder, "bernoulli": BernoulliEncoder, "latency": LatencyEncoder}
NOT_KEPT = ("optimizer", "generators")  # a converted network is not trained on


@dataclass
class Conversion:
    """Scales and arguments of a conversion, as a checkpoint keeps them.

    scales:    of every layer, with their origin
    arguments: of `models.deploy.convert`, plain values; `encoder` is apart
    encoder:   `name` of `ENCODERS` and its arguments, T among them
    weights:   which of the source's: "ema" or "model"
    bias, bias_at: of `models.deploy.bias`: {layer: [C]} for T = bias_at; None: not corrected
    """

    scales: ScaleTable
    arguments: dict[str, Any]
    encoder: dict[str, Any]
    weights: str = "ema"
    bias: dict[str, Tensor] = field(default_factory=dict)
    bias_at: int | None = None

    def apply(self, ann: Detector) -> ConvertedDetector:
        """The converted detector of `ann`. UserError naming the first layer that does not convert."""
        encoder = build_encoder(**self.encoder)
        # "direct" is the own encoder of `ann`, which may be a learned sampler.
        of_images = {"T": encoder.T} if type(encoder) is DirectEncoder else {"encoder": encoder}
        snn = convert(ann, self.scales, **of_images, **self.arguments)
        return snn if self.bias_at is None else add_bias(snn, self.bias, self.bias_at)

    def to_content(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {
            "scales": dict(self.scales),
            "origin": self.scales.origin,
            "clipped": self.scales.clipped,
            "arguments": self.arguments,
            "encoder": self.encoder,
            "weights": self.weights,
            "bias": self.bias,
            "bias_at": self.bias_at,
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Conversion:
        """UserError for an entry that `to_content` did not make."""
        try:
            check_plain({key: content[key] for key in ("origin", "clipped", "arguments", "encoder")}, "conversion")
            table = ScaleTable(content["scales"], content["origin"], content["clipped"])
            parts = dict(content["arguments"]), dict(content["encoder"]), content["weights"]
            bias_at = None if content["bias_at"] is None else operator.index(content["bias_at"])
            return cls(table, *parts, dict(content["bias"]), bias_at)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise UserError(f"its entry 'conversion' is damaged ({error!s:.200}): run convert.py again") from error


def build_encoder(name: str, **arguments: Any) -> Encoder:
    if name not in ENCODERS:
        raise UserError(none_of(f"encoder = {name!r}", name, ENCODERS))
    return ENCODERS[name](**arguments)


def build_converted(ann: Detector, content: Mapping[str, Any], weights: str, path: Path) -> ConvertedDetector:
    """The detector of the converted checkpoint `path`, whose source network is `ann` with its `weights`."""
    try:
        conversion = Conversion.from_content(content["conversion"])
        if conversion.weights != weights:
            raise UserError(
                f"was converted from the weights {conversion.weights!r}, whose activations were measured, not from "
                f"{weights!r}: convert those with convert.py --weights {weights}"
            )
        return conversion.apply(ann)
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path}: {error}") from error


def conversion_settings(content: Mapping[str, Any], model: Detector) -> dict[str, Any]:
    """For metrics.json: `neuron`, before and after, and `conversion`, how a checkpoint was converted to `model`, plain
    values. Nothing if it was not."""
    if "conversion" not in content:
        return {}
    conversion = Conversion.from_content(content["conversion"])
    neurons = sorted({type(neuron).__name__ for neuron in model.spiking_layers().values()})
    how = {"encoder": conversion.encoder, "bias_at": conversion.bias_at, "calibration": conversion.scales.origin}
    return {
        "neuron": f"{' and '.join(neurons)}, converted from {content['model_kwargs'].get('neuron')}",
        "conversion": {**conversion.arguments, **how},
    }
