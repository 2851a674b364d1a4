"""Allowed values of config keys: ranges of numbers, choices of words; checked before anything is built."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from registry import UserError, did_you_mean


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; `open_low` and `open_high` exclude that end. A text `null` allows None and
    describes it. With a `word` numbers are whole, or that word."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    null: str = ""
    word: str = ""

    def __contains__(self, value: object) -> bool:
        if value is None:
            return bool(self.null)
        if self.word and not (isinstance(value, int) and not isinstance(value, bool)):
            return value == self.word
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low = f"more than {self.low}" if self.open_low else f"at least {self.low}" if self.low else "0 or more"
        high = "" if self.high == math.inf else f" and {'below' if self.open_high else 'at most'} {self.high}"
        return (
            low + high + (f", or null for {self.null}" if self.null else "") + (f", or {self.word}" * bool(self.word))
        )


@dataclass(frozen=True)
class Choice:
    """One of `words`, or a match of the pattern `also`, shown in messages as `example`."""

    words: tuple[str, ...]
    also: str = r"(?!)"
    example: str = ""

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and (value in self.words or re.fullmatch(self.also, value) is not None)

    def __str__(self) -> str:
        return " or ".join([", ".join(self.words), *([self.example] if self.example else [])])


COUNT = Range(1, 2**31 - 1)
SHARE = Range(0, 1, open_high=True)
# Every number and every choice of configs/base.yaml, except data.size, which the datasets check.
ALLOWED: dict[str, Range | Choice] = {
    "seed": Range(0, 2**64 - 1),
    "device": Choice(("auto", "cpu", "cuda"), r"cuda:\d{1,4}", "cuda:N, as in cuda:1"),
    "threads": Range(1, 1024, null="torch's own choice"),
    "timeout_minutes": Range(0, 60 * 24, open_low=True),
    "model.T": COUNT,
    "data.workers": Range(0, 1024),
    "data.cache": Choice(("none", "ram", "disk")),
    "optim.name": Choice(("sgd", "adamw", "muon")),
    "optim.lr": Range(0),
    "optim.final_lr_factor": Range(0),
    "optim.decay": Choice(("cosine", "linear")),
    "optim.momentum": SHARE,
    "optim.weight_decay": Range(0),
    "optim.warmup_epochs": Range(0),
    "optim.warmup_bias_lr": Range(0),
    "optim.warmup_momentum": SHARE,
    "train.epochs": COUNT,
    "train.batch_size": Range(1, 2**31 - 1, word="auto"),
    "train.accumulate": COUNT,
    "train.bptt": COUNT,
    "train.precision": Choice(("fp32", "bf16", "fp16")),
    "train.profile": Range(1, 1000, null="no trace"),
    "train.clip_norm": Range(0, open_low=True, null="no clipping"),
    "train.ema_decay": SHARE,
    "train.ema_ramp": Range(0, open_low=True),
    "train.anneal_until": Range(0, 1, open_low=True),
    "train.distill_weight": Range(0, open_low=True),
    "train.fit_neurons": Range(0, 2**31 - 1),
    "train.eval_every": COUNT,
    "train.patience": Range(1, 2**31 - 1, null="no early end"),
    "train.keep_every": Range(1, 2**31 - 1, null="best and last alone"),
    "train.save_minutes": Range(0, open_low=True, null="after each epoch alone"),
    "train.max_hours": Range(0, open_low=True, null="no limit"),
    "train.log_every": COUNT,
    "eval.batch_size": COUNT,
    "eval.T": Range(1, 2**31 - 1, null="the detector's own"),
    "eval.score_threshold": Range(0, 1, null="the head's own"),
    "eval.nms_iou": Range(0, 1, null="the head's own"),
    "eval.max_detections": Range(1, 2**31 - 1, null="the head's own"),
}


def check_values(plain: Mapping[str, Any]) -> None:
    """UserError with key, value and range of the first value of a config that is not allowed."""
    values = dict(leaves(plain))
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            allowed = ALLOWED.get(key)
            raise UserError(f"{key} = {value}: give {allowed if allowed else 'a finite number'}")
    for key, allowed in ALLOWED.items():
        if (value := values.get(key)) not in allowed:
            near = did_you_mean(value, allowed.words) if isinstance(allowed, Choice) and isinstance(value, str) else ""
            raise UserError(f"{key} = {value!r}{near or ':'} give {allowed}")
    for pattern, factor in plain["optim"]["groups"].items():
        if factor not in Range(0, open_low=True):
            raise UserError(
                f"optim.groups.{pattern} = {factor!r}: give a factor of the learning rate, more than 0; train.freeze "
                "keeps weights as they are"
            )
    if (factors := plain["train"]["multi_scale"]) is not None:
        pair = isinstance(factors, list) and len(factors) == 2 and all(f in Range(0, open_low=True) for f in factors)
        if not pair or factors[0] > factors[1]:
            raise UserError(
                f"train.multi_scale = {factors!r}: give the smallest and the largest factor of data.size, as in "
                "[0.5, 1.5], or null"
            )
    blocks = plain["train"]["checkpoint"]
    if not isinstance(blocks, bool) and not (isinstance(blocks, list) and all(isinstance(b, str) for b in blocks)):
        raise UserError(
            f"train.checkpoint = {blocks!r}: give true, false, or patterns of blocks, as in [backbone.stem]"
        )
    if plain["train"]["pack_spikes"] and plain["train"]["compile"]:
        raise UserError(
            "train.pack_spikes = true: compiled blocks choose themselves what they keep; set train.compile=false"
        )
    if plain["train"]["eval_both"] and not values["train.ema_decay"]:
        raise UserError(
            "train.eval_both = true: with train.ema_decay=0 there is no average beside the weights; set false"
        )
    warmup, epochs = values["optim.warmup_epochs"], values["train.epochs"]
    if warmup >= epochs:
        raise UserError(
            f"optim.warmup_epochs = {warmup}: give less than train.epochs = {epochs}, or the rate never reaches "
            "optim.lr; 0 for none"
        )


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every value in nested mappings and lists."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from leaves(value, f"{key}[{i}]")
    else:
        yield key, node
