"""readout: the logits as a learned sum over the T steps, in place of their mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry import UserError, none_of

from ..contracts import ReadsOut
from ..detector import Detector
from ..layers.step_weights import StepWeights
from .registry import register_option

READOUTS = ("mean", "learned")


@register_option("mean")
def readout(model: Detector, kind: str, arguments: Mapping[str, Any]) -> None:
    """`learned`: the logits are W (sum over t of w[t] x[t]) + b, with T weights w for each convolution that gives
    logits, 1/T at the start.

    The time decoder of TDE (Luo et al., AAAI 2026, arXiv 2512.02447): a linear layer T -> 1. Differs from the published
    code, where one decoder with a bias of its own follows on the logits of all levels: here each level has weights of
    its own, and within it boxes, objectness and classes have, as far as they come from different convolutions; the
    bias is b alone, and is not weighted; and weights start at 1/T for any T, there at 1/4.

    UserError for a network whose maps have no T steps, and for a head that is not `ReadsOut`.
    """
    if kind not in READOUTS:
        raise UserError(none_of(f"readout = {kind!r}", kind, READOUTS))
    if not getattr(model.network, "keeps_steps", True):
        raise UserError(
            "readout = 'learned': the head of this network sees no single steps, but their mean: leave it out"
        )
    if not isinstance(model.head, ReadsOut):
        raise UserError(
            f"readout = 'learned': {type(model.head).__name__} does not name the convolutions of its logits "
            "(`readouts`, see models/contracts.py): leave it out, or choose another head"
        )
    for conv in model.head.readouts():
        conv.step_weights = StepWeights(arguments["T"])
