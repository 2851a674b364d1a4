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
    """Batches of indices for evaluation: every recording lies whole in one row, and row b of a batch continues row b of
    the batch before until all rows begin anew, the last time with fewer rows.

    Recordings are taken longest first, `batch_size` at a time, and these groups are dealt out to the ranks: each batch
    is the same for any number of ranks, since its other rows change the last digits of results. Shorter rows are padded
    with their last sample, which an evaluator counts once. A rank may have no batch.
    """
    ordered = sorted(sequences, key=len, reverse=True)
    batches: list[list[int]] = []
    for first in range(rank * batch_size, len(ordered), world_size * batch_size):
        rows = ordered[first : first + batch_size]
        batches += ([row[min(i, len(row) - 1)] for row in rows] for i in range(len(rows[0])))
    return batches
