"""Checkpoints of converted detectors: their entry `conversion`, and the detector that `open_run` builds from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from models import Detector
from models.contracts import Encoder
from models.deploy import ConvertedDetector, convert
from models.deploy.scales import ScaleTable
from models.encoders import BernoulliEncoder, DirectEncoder, LatencyEncoder
from registry import UserError, none_of

ENCODERS = {"direct": DirectEncoder, "bernoulli": BernoulliEncoder, "latency": LatencyEncoder}
NOT_KEPT = ("optimizer", "generators")  # a converted network is not trained on


@dataclass
class Conversion:
    """Scales and arguments of a conversion, as a checkpoint keeps them.

    scales:    of every layer, with their origin
    arguments: of `models.deploy.convert`, plain values; `encoder` is apart
    encoder:   `name` of `ENCODERS` and its arguments, T among them
    weights:   which of the source's: "ema" or "model"
    """

    scales: ScaleTable
    arguments: dict[str, Any]
    encoder: dict[str, Any]
    weights: str = "ema"

    def apply(self, ann: Detector) -> ConvertedDetector:
        """The converted detector of `ann`. UserError naming the first layer that does not convert."""
        return convert(ann, self.scales, encoder=build_encoder(**self.encoder), **self.arguments)

    def to_content(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {
            "scales": dict(self.scales),
            "origin": self.scales.origin,
            "clipped": self.scales.clipped,
            "arguments": self.arguments,
            "encoder": self.encoder,
            "weights": self.weights,
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Conversion:
        """UserError for an entry that `to_content` did not make."""
        try:
            scales: dict[str, Tensor] = content["scales"]
            table = ScaleTable(scales, content["origin"], content["clipped"])
            return cls(table, dict(content["arguments"]), dict(content["encoder"]), content["weights"])
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise UserError(f"its entry 'conversion' is damaged ({error!r:.200}): run convert.py again") from error


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


def conversion_settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """`conversion`: how a checkpoint was converted, plain values, for metrics.json; nothing if it was not."""
    if "conversion" not in content:
        return {}
    conversion = Conversion.from_content(content["conversion"])
    return {
        "conversion": {**conversion.arguments, "encoder": conversion.encoder, "calibration": conversion.scales.origin}
    }
