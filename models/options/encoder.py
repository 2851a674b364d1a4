"""encoder: another code of images than that of the model's paper, in front of its network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from registry import Registry, UserError

from ..contracts import EncodesSteps
from ..detector import Detector
from ..temporal_encoder import TemporalEncoder
from .registry import register_option

ENCODERS: Registry[TemporalEncoder] = Registry("encoder")
ENCODERS.register("temporal")(TemporalEncoder)


@register_option(None)
def encoder(model: Detector, spec: str | dict | None, arguments: Mapping[str, Any]) -> None:
    """A name, or a mapping with `name`, of an encoder that is built around the model's own, which gives the pixels.

    UserError for a model whose own encoder makes steps that differ: a learned sampler, or a code of images.
    """
    own, channels = model.encoder, arguments["in_channels"]
    if not (isinstance(own, EncodesSteps) and own.constant(torch.zeros(1, channels, 1, 1))):
        raise UserError(
            f"encoder = {spec!r}: this model has an encoder of its own whose steps differ, {type(own).__name__}: leave "
            "it out"
        )
    model.encoder = ENCODERS.build(spec, own, channels)  # type: ignore[arg-type]
