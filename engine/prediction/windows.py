"""Windows of recordings to predict on (`Windows`), from the run's config and the options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data.events.clip import FromFirst
from data.events.input import EventInput
from registry import UserError


@dataclass(frozen=True)
class Windows:
    """Which windows of a recording are predicted on, in us. They end at the start of the recording plus 1, 2, ... times
    `stride`, up to its last event; parts before its start are empty.

    carry: each continues from the membranes of the one before; window and stride are then equal
    whole: one window instead, from the first event, of that length or (None) to the last event
    """

    length: int
    stride: int
    carry: bool = False
    whole: FromFirst | None = None

    def describe(self) -> str:
        state = "membranes carried from each to the next" if self.carry else "each from the initial state"
        if self.whole is not None:
            return f"one for each recording, as in the training; {state}"
        return f"{self.length / 1e3:g} ms, one every {self.stride / 1e3:g} ms, {state}"


def windows_of(
    config: dict[str, Any], input: EventInput, window_ms: float | None, stride_ms: float | None, carry: bool | None
) -> Windows:
    """Those of the training, but for what is given. config: of the run, plain values.

    UserError for values that cannot be, and for `carry` of windows that overlap, leave gaps or run backwards."""
    args = config["data"].get("args") or {}
    sequential = args.get("sampling") == "sequential"
    length = input.window_us if window_ms is None else round(1e3 * window_ms)
    stride = length if stride_ms is None else round(1e3 * stride_ms)
    carry = sequential if carry is None else carry
    if length < input.num_steps:
        raise UserError(f"--window-ms {window_ms:g}: is too short for {input.num_steps} steps of at least 1 us")
    if carry and stride_ms is not None and stride != length:
        raise UserError(
            f"--stride-ms {stride_ms:g}: membranes are carried over windows that follow each other, here of "
            f"{length / 1e3:g} ms. Leave it out, or add --no-carry"
        )
    if carry and input.newest_first:
        raise UserError("--carry: the steps of this checkpoint run backwards (newest_first). Leave it out")
    if config["data"]["name"] == "ncaltech101" and window_ms is None and stride_ms is None and not carry:
        given = args.get("window_ms")
        return Windows(length, length, whole=FromFirst(None if given is None else round(1e3 * given)))
    return Windows(length, stride, carry)
