"""Copy the next batch to the GPU while the present one is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from data.sample import Batch


@dataclass
class OnDevice(Batch):
    """A batch whose copy has begun. `to` lets the current stream of the device, not the host, wait for it.

    copied: what `Batch.to` gave. done: recorded after the copy, on the stream that makes it.
    """

    copied: tuple[Tensor, list[dict[str, Tensor] | None]] | None = None
    done: torch.cuda.Event | None = None

    def to(self, device: torch.device | str) -> tuple[Tensor, list[dict[str, Tensor] | None]]:
        assert self.copied is not None and self.done is not None
        stream = torch.cuda.current_stream(device)
        stream.wait_event(self.done)
        x, targets = self.copied
        for tensor in (x, *(t for target in targets if target is not None for t in target.values())):
            tensor.record_stream(stream)  # its memory belongs to the other stream
        return x, targets


def prefetched(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches in their order, each with its copy begun before the one before it is given out. Copies run beside the
    computation if a batch is in pinned memory, as that of a loader is. On a CPU the batches as they are."""
    if device.type != "cuda":
        yield from batches
        return
    side = torch.cuda.Stream(device)
    ahead: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(side):
            copied = batch.to(device)
            done = side.record_event()
        fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
        if ahead is not None:
            yield ahead
        ahead = OnDevice(**fields, copied=copied, done=done)
    if ahead is not None:
        yield ahead
