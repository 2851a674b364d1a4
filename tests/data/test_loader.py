"""Batches depend on (seed, epoch) alone, not on workers or ranks."""

import subprocess

import pytest
import torch

from data import create_dataset, eval_loader, train_loader
from data.loader import EpochSampler

AUGMENT = {"hflip": 0.5, "scale": 0.3, "translate": 0.2, "hsv": [0.1, 0.7, 0.4]}


@pytest.fixture
def dataset(coco_folder):
    root = coco_folder(images={f"{k}.png": [(1, [12, 10, 12, 10])] for k in range(9)})
    return create_dataset("coco", "train", root=root, size=32, augment=AUGMENT)


@pytest.fixture
def one_image(coco_folder, write_image):
    """The same image eight times: what differs is the augmentation."""
    root = coco_folder(images={f"{k}.png": [(1, [12, 10, 12, 10])] for k in range(8)})
    for k in range(8):
        write_image(root / "train" / f"{k}.png", seed=1)
    return create_dataset("coco", "train", root=root, size=32, augment=AUGMENT)


def epoch(loader, number):
    loader.sampler.set_epoch(number)
    return [(b.x, b.image_ids, [t["boxes"] for t in b.targets]) for b in loader]


def same(one, other):
    return all(
        torch.equal(x, y) and i == j and all(map(torch.equal, a, b))
        for (x, i, a), (y, j, b) in zip(one, other, strict=True)
    )


def test_same_batches_whatever_the_workers(dataset):
    alone, shared = (train_loader(dataset, 2, seed=3, workers=workers) for workers in (0, 2))
    for number in (0, 1):
        assert same(epoch(alone, number), epoch(shared, number))
    # a restart in the middle of a training: a new loader, straight at epoch 1
    assert same(epoch(alone, 1), epoch(train_loader(dataset, 2, seed=3), 1))
    assert not same(epoch(alone, 1), epoch(alone, 0))
    assert not same(epoch(alone, 1), epoch(train_loader(dataset, 2, seed=4), 1))


def test_order_and_augmentation_change_with_the_epoch(dataset):
    loader = train_loader(dataset, 3, seed=0)
    first, second = epoch(loader, 0), epoch(loader, 1)
    assert [i for _, i, _ in first] != [i for _, i, _ in second]
    by_id = [{i: x for xs, ids, _ in batches for i, x in zip(ids, xs, strict=True)} for batches in (first, second)]
    assert not any(torch.equal(by_id[0][i], by_id[1][i]) for i in by_id[0])


def test_workers_are_no_copies_of_each_other(one_image):
    loader = train_loader(one_image, 1, seed=0, workers=2)
    images = [x.numpy().tobytes() for number in (0, 1) for x, _, _ in epoch(loader, number)]
    assert len(set(images)) == 16


@pytest.mark.parametrize(("length", "world_size"), [(9, 2), (8, 2), (9, 4)])
def test_ranks_share_the_data(length, world_size):
    samplers = [EpochSampler(length, 1, rank, world_size, epochs=5) for rank in range(world_size)]
    for sampler in samplers:
        sampler.set_epoch(2)
    keys = [list(sampler) for sampler in samplers]
    per_rank = -(-length // world_size)
    indices = [index for part in keys for index, *_ in part]
    assert {len(part) for part in keys} == {len(samplers[0])} == {per_rank}
    assert set(indices) == set(range(length)) and len(indices) == per_rank * world_size
    assert all(rest == [2, 1, 3] for part in keys for _, *rest in part)  # epoch, seed, epochs left


def test_every_training_sample_once(dataset):
    loader = train_loader(dataset, 3, seed=0)
    assert sorted(i for _, ids, _ in epoch(loader, 0) for i in ids) == list(range(1, 10))


def test_evaluation_sees_each_sample_once_over_all_ranks(dataset):
    ids = [[i for b in eval_loader(dataset, 2, rank=rank, world_size=2) for i in b.image_ids] for rank in (0, 1)]
    assert ids == [[1, 2, 5, 6, 9], [3, 4, 7, 8]]  # whole batches


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 4, 1]), (9, [9]), (10, [9]), (1000, [9]), (8, [8, 1])])
def test_the_last_batch_holds_what_is_left(dataset, batch_size, sizes):
    loader = train_loader(dataset, batch_size, seed=0)
    for number in (0, 1):
        batches = [ids for _, ids, _ in epoch(loader, number)]
        assert [len(ids) for ids in batches] == sizes and sorted(sum(batches, [])) == list(range(1, 10))
    assert len(loader) == len(sizes)


def test_ranks_have_batches_of_one_size(dataset):
    loaders = [train_loader(dataset, 2, seed=0, rank=rank, world_size=2) for rank in (0, 1)]
    assert [[len(ids) for _, ids, _ in epoch(loader, 0)] for loader in loaders] == [[2, 2, 1]] * 2


def test_no_samples_at_all(dataset):
    dataset.records = []
    with pytest.raises(ValueError, match="the training split holds no samples"):
        train_loader(dataset, 2, seed=0)


def test_a_batch_becomes_float(dataset):
    batch = next(iter(eval_loader(dataset, 4)))
    assert batch.x.dtype == torch.uint8 and batch.x.shape == (4, 3, 32, 32)
    x, targets = batch.to("cpu")
    assert x.dtype == torch.float32 and x.max() <= 1 and torch.equal(x, batch.x.float() * (1 / 255))
    assert len(targets) == 4 and targets[0]["labels"].tolist() == [0]


def test_workers_ignore_the_signals_of_a_job(dataset):
    """torchrun and queues send them to every process; the training ends its workers itself."""
    loader = train_loader(dataset, 2, seed=3, workers=2)
    batches = iter(loader)
    first = next(batches)
    workers = batches._workers
    for name in ("INT", "TERM", "HUP", "USR1"):
        subprocess.run(["kill", f"-{name}", *(str(worker.pid) for worker in workers)], check=True)
    assert len([first, *batches]) == len(loader) and all(worker.is_alive() for worker in workers)
    workers[0].terminate()
    workers[0].join(30)
    assert workers[0].exitcode == 0 and workers[1].is_alive()


def test_an_epoch_continues_within(dataset):
    whole = epoch(train_loader(dataset, 2, seed=3), 1)
    for workers in (0, 2):
        rest = train_loader(dataset, 2, seed=3, workers=workers)
        rest.sampler.set_epoch(1, 3 * 2)
        assert same(whole[3:], [(b.x, b.image_ids, [t["boxes"] for t in b.targets]) for b in rest])
        assert len(rest) == len(whole) and same(whole, epoch(rest, 1))
