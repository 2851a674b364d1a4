"""Data loaders. Batches depend on (seed, epoch) alone, not on workers or restarts."""

from __future__ import annotations

import os
import signal
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from registry import UserError

from .dataset import DetectionDataset
from .sample import collate
from .stream_sampler import StreamSampler, stream_batches


class EpochSampler(Sampler[tuple[int, int, int, int | None]]):
    """Shuffled keys (index, epoch, seed, epochs left) for one rank of `world_size`.

    The key seeds all randomness of a sample. Generators inside workers would repeat across workers and epochs. Call
    `set_epoch` before each epoch, with `start` to leave out the first samples of this rank. Every rank gets the same
    number of samples: the last ones are padded from the front of the shuffled order. `epochs`: length of the training;
    None where nothing depends on it.
    """

    def __init__(self, length: int, seed: int, rank: int = 0, world_size: int = 1, epochs: int | None = None):
        self.length, self.seed, self.rank, self.world_size, self.epochs = length, seed, rank, world_size, epochs
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Of a whole epoch, wherever it starts."""
        return -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int, int, int | None]]:
        shuffled = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        order = np.resize(shuffled, len(self) * self.world_size).tolist()  # repeats from the front
        epochs_left = None if self.epochs is None else self.epochs - self.epoch
        for index in order[self.rank :: self.world_size][self.start :]:
            yield index, self.epoch, self.seed, epochs_left


def train_loader(
    dataset: DetectionDataset,
    batch_size: int,
    seed: int,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    epochs: int | None = None,
) -> DataLoader:
    """Batches of `batch_size` samples per rank, reshuffled each epoch (`loader.sampler.set_epoch(epoch, start)`).

    The last batch may be smaller (drop_last=False). In sequential sampling each batch row plays recordings: see
    `StreamSampler`. `epochs`: length of the training, for augmentation that is off in its last epochs.
    """
    sampler: EpochSampler | StreamSampler
    if (sequences := dataset.sequences) is not None:
        sampler = StreamSampler(sequences, batch_size, seed, rank, world_size, epochs)
    else:
        sampler = EpochSampler(len(dataset), seed, rank, world_size, epochs)
    if not len(dataset):
        raise UserError("the training split holds no samples")
    if len(set(map(dataset.shape_of, range(len(dataset))))) > 1:
        raise UserError("training samples must have one shape: rectangular is for evaluation, as eval.rectangular")
    return _loader(dataset, workers, seed, batch_size=batch_size, sampler=sampler)


def eval_loader(
    dataset: DetectionDataset, batch_size: int, workers: int = 0, rank: int = 0, world_size: int = 1
) -> DataLoader:
    """Every sample once, in order. Whole batches are dealt out to the ranks, so that each is the same for any number of
    ranks: the size of a batch changes the last digits of its results. A rank may have none.

    Where samples differ in shape, each batch holds samples of one shape; shapes come in the order of their first
    sample. In sequential sampling each batch row plays whole recordings: see `stream_batches`.
    """
    if (sequences := dataset.sequences) is not None:
        return _loader(dataset, workers, batch_sampler=stream_batches(sequences, batch_size, rank, world_size))
    return _in_order(dataset, range(len(dataset)), batch_size, workers, rank, world_size)


def calibration_loader(
    dataset: DetectionDataset, batch_size: int, samples: int | None = None, seed: int = 0, workers: int = 0
) -> DataLoader:
    """The first `samples` of the dataset in the order of `seed`, each once; None: all.

    Batches are of one shape, as those of `eval_loader`. The order does not depend on `samples`.
    """
    order = np.random.default_rng(seed).permutation(len(dataset)).tolist()
    return _in_order(dataset, order[:samples], batch_size, workers)


def _in_order(
    dataset: DetectionDataset, indices: Iterable[int], batch_size: int, workers: int, rank: int = 0, world_size: int = 1
) -> DataLoader:
    """Samples in the order of `indices`, in batches of one shape, shapes in the order of their first sample; of these
    batches every `world_size`-th."""
    of_shape: dict[tuple[int, int] | None, list[int]] = defaultdict(list)
    for index in indices:
        of_shape[dataset.shape_of(index)].append(index)
    batches = [same[i : i + batch_size] for same in of_shape.values() for i in range(0, len(same), batch_size)]
    return _loader(dataset, workers, batch_sampler=batches[rank::world_size])


def _loader(dataset: DetectionDataset, workers: int, seed: int = 0, **kwargs) -> DataLoader:
    dataset.open_cache()
    return DataLoader(
        dataset,
        # Each new iterator would otherwise draw from the global generator, and a resumed run makes one more iterator.
        generator=torch.Generator().manual_seed(seed),
        num_workers=workers,
        collate_fn=partial(collate, scale=dataset.scale),
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_ignore_signals if workers else None,
        **kwargs,
    )


def _ignore_signals(worker: int) -> None:
    """Signals to all processes of a job (Ctrl-C, queues, torchrun) are for the training. Only its own SIGTERM, which it
    sends when it ends within an epoch, ends a worker."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
