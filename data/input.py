"""Rebuild the input of a network (`ImageInput`, `EventInput`, `FrameInput`) from the plain values in a checkpoint."""

from __future__ import annotations

import inspect
from typing import Any

from registry import UserError, none_of, reject_unknown

from .events.input import EventInput, FrameInput
from .images.input import ImageInput

INPUTS: dict[str, Any] = {cls.kind: cls for cls in (ImageInput, EventInput, FrameInput)}
MOST = 1 << 32  # elements of one x: far above any training; bounds what a damaged file can allocate


def input_from_plain(plain: Any, source: str = "input of a checkpoint") -> ImageInput | EventInput | FrameInput:
    """Inverse of `Input.to_plain`, of the entry `input` of a checkpoint; None: that of an earlier version, without one.

    The values are untrusted: UserError, with `source` in front, for anything else.
    """
    if plain is None:
        raise UserError(
            f"{source}: is missing, as in checkpoints of earlier versions, so nothing says how images or events were "
            "prepared. Resume the training for an epoch (train.epochs=N --resume), which writes a new one"
        )
    if not isinstance(plain, dict) or not all(isinstance(key, str) for key in plain):
        raise UserError(f"{source}: {plain!r:.200} is no mapping of names")
    kind, values = plain.get("kind"), {key: value for key, value in plain.items() if key != "kind"}
    if not isinstance(kind, str) or kind not in INPUTS:
        raise UserError(f"{source}: {none_of(f'kind = {kind!r:.200}', kind, INPUTS)}")
    parameters = inspect.signature(INPUTS[kind]).parameters
    reject_unknown(values, parameters, f"{source}: {kind!r}")
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    if missing := [name for name in needed if name not in values]:
        raise UserError(f"{source}: {kind!r} has no {', '.join(missing)}: it is damaged")
    try:
        found = INPUTS[kind](**values)
        numbers = (found.num_steps or 1) * found.channels * found.size[0] * found.size[1]
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise UserError(f"{source}: {error}") from error
    if numbers > MOST:
        raise UserError(f"{source}: {numbers} numbers in one x are more than {MOST}: it is damaged or hostile")
    return found
