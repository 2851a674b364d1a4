"""The position within an epoch: what a checkpoint between two of its steps holds, and how the epoch continues there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from neurons import Stream
from registry import UserError

from .. import distributed
from ..loop import Running
from .checkpoint import Content


def epoch_state(running: Running, batches_per_step: int, streams: Mapping[str, Stream]) -> dict[str, Any]:
    """Entries of a checkpoint after the batches in `running`. All ranks call it; those of rank 0 are complete.

    streams: those that are open, by a name; their states on all ranks are saved.
    """
    ranks = distributed.gather_to_main([stream.state() for stream in streams.values()])
    return {
        "batch": running.batches,  # of each rank
        "batches_per_step": batches_per_step,
        "running": asdict(running),
        "streams": dict(zip(streams, map(list, zip(*ranks, strict=True)), strict=False)),
    }


def restored_running(content: Content, batches_per_step: int, batches: int) -> Running:
    """What has been trained of the epoch. batches: of an epoch, of each rank.

    Steps of the optimizer are counted, since a resume may split their samples otherwise.
    """
    steps = -(-content["batch"] // content["batches_per_step"])
    return replace(Running(**content["running"]), batches=min(steps * batches_per_step, batches))


class Carried:
    """States of the streams of an epoch in the checkpoint `path`: {name: [what `Stream.state` gave, of each rank]}."""

    def __init__(self, saved: dict[str, list[Any]], path: Path):
        self.saved, self.path = saved, path

    def restore(self, streams: Mapping[str, Stream], rows: int, device: torch.device) -> None:
        """Continue the open `streams` with this rank's `rows` of each batch. UserError if the rows of all ranks are not
        those of the checkpoint, which play other recordings."""
        saved, path = self.saved, self.path
        if saved.keys() != streams.keys():
            raise UserError(f"{path}: carries the states of {sorted(saved)}, this training those of {sorted(streams)}")
        first, ranks = distributed.rank() * rows, distributed.world_size()
        for name, stream in streams.items():
            try:
                known = {sum(part["shape"][0] for part in parts if part) for parts in zip(*saved[name], strict=True)}
                if other := known - {0, rows * ranks}:
                    raise UserError(
                        f"{path}: was saved within an epoch of recordings in sequence, in {max(other)} rows. Until the "
                        f"epoch ends processes x train.batch_size must stay that; here it is {ranks} x {rows}"
                    )
                stream.restore(saved[name], slice(first, first + rows), device)
            except (LookupError, TypeError, AttributeError, RuntimeError, ValueError) as error:
                if isinstance(error, UserError):
                    raise
                raise UserError(f"{path}: its states of {name} are of another network: {error!r}") from error
