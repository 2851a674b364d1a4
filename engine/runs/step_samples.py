"""The samples of an optimizer step, which a resume on another number of processes keeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from registry import UserError

KEYS = ("train.batch_size", "train.accumulate")


def keep_samples(cfg: DictConfig, content: Mapping[str, Any], given: Collection[str], ranks: int, folder: Path) -> None:
    """Set `train.batch_size` and `train.accumulate` of `cfg` so that a step on `ranks` processes has the samples that
    it has in the checkpoint `content`, of the run `folder`. Batches never grow, so that they fit in memory as before;
    within an epoch of recordings in sequence their rows stay, whose states are in the checkpoint.

    given: keys of the command line. UserError where they contradict that, and where there is no such split.
    """
    train, samples = cfg.train, content.get("samples_per_step")
    if samples is None or samples == train.batch_size * train.accumulate * train.bptt * ranks:
        return
    of_each, rest = divmod(samples, train.bptt * ranks)
    saved = content["config"]["train"]
    rows = samples // (saved["accumulate"] * saved["bptt"]) if content.get("streams") else 0
    best = (rows // ranks, saved["accumulate"]) if rows else _split(of_each, saved["batch_size"])
    if rest or best[0] * best[1] != of_each or not best[0]:
        fit = [n for n in range(1, samples + 1) if samples % (train.bptt * n) == 0 and not (rows and rows % n)]
        raise UserError(
            f"{folder}: its steps have {samples} samples, which {ranks} processes cannot share equally. Start "
            f"{', '.join(map(str, fit[:12]))} processes, or a new run from these weights with train.init_from"
        )
    if asked := [key for key in KEYS if key in given]:
        product = f"train.batch_size={train.batch_size} x train.accumulate={train.accumulate} x {ranks} processes"
        bptt = f" x train.bptt={train.bptt}" if train.bptt > 1 else ""
        raise UserError(
            f"{product}{bptt} = {train.batch_size * train.accumulate * train.bptt * ranks} samples of a step, and "
            f"{folder} has {samples}: leave out {' and '.join(asked)}, or set {KEYS[0]}={best[0]} {KEYS[1]}={best[1]}"
        )
    train.batch_size, train.accumulate = best


def _split(samples: int, largest: int) -> tuple[int, int]:
    """(batch size, number of batches) of `samples`, with the largest batches up to a size."""
    size = next(size for size in range(min(largest, samples) or 1, 0, -1) if samples % size == 0)
    return size, samples // size
