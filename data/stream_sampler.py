"""Samplers for stateful training and evaluation: each batch row plays recordings window by window.

Row b of a batch continues row b of the batch before, or begins a recording (`Sample.start`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class StreamSampler(Sampler[tuple[int, int, int, int | None]]):
    """Keys (index, epoch, seed, epochs left) of training samples, `batch_size` rows for one rank of `world_size`.

    sequences: the indices of each recording's samples in order of time (`EventDataset.sequences`)

    The recordings are shuffled each epoch, concatenated and split into equal parts, one per batch row of all ranks.
    Every sample comes once; the last part is padded from the front. A part may begin within a recording; the state is
    then reset there. Call `set_epoch` before each epoch, with `start`, a multiple of `batch_size`, to leave out the
    first samples of this rank.
    """

    def __init__(
        self,
        sequences: Sequence[range],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        epochs: int | None = None,
    ):
        self.sequences, self.batch_size, self.seed = sequences, batch_size, seed
        self.rank, self.world_size, self.epochs, self.epoch, self.start = rank, world_size, epochs, 0, 0
        self._steps = -(-sum(map(len, sequences)) // (batch_size * world_size))

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Of a whole epoch, wherever it starts."""
        return self._steps * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int, int, int | None]]:
        shuffled = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.sequences))
        line = np.concatenate([np.asarray(self.sequences[k]) for k in shuffled])
        rows = np.resize(line, (self.world_size, self.batch_size, self._steps))  # repeats from the front
        epochs_left = None if self.epochs is None else self.epochs - self.epoch
        for index in rows[self.rank].T.reshape(-1)[self.start :].tolist():
            yield index, self.epoch, self.seed, epochs_left


def stream_batches(sequences: Sequence[range], batch_size: int, rank: int = 0, world_size: int = 1) -> list[list[int]]:
    """Batches of indices for evaluation: every recording lies whole in one row of one rank, so that detections depend
    neither on the batch size nor on the number of ranks.

    Recordings are assigned longest first, each to the shortest row. Shorter rows are padded with their last sample,
    which an evaluator counts once.
    """
    mine = sorted(sequences, key=len, reverse=True)[rank::world_size]
    rows: list[list[int]] = [[] for _ in range(min(batch_size, len(mine)))]
    for sequence in mine:
        min(rows, key=len).extend(sequence)
    longest = max(map(len, rows), default=0)
    rows = [row + row[-1:] * (longest - len(row)) for row in rows]
    return [list(batch) for batch in zip(*rows, strict=True)]
