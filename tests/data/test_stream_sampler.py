"""Sequential sampling: every batch row plays recordings from their start, window by window."""

import numpy as np
import pytest
import torch

from data import create_dataset, eval_loader, train_loader
from data.events.windows import sequential_windows
from data.recordings import open_dat, write_boxes, write_dat
from data.recordings.boxes import BOX_DTYPE
from data.stream_sampler import StreamSampler, stream_batches

LABELS = {"a": [250_000, 500_000, 1_000_000], "b": [700_000], "c": [125_000, 250_000, 251_000], "d": [2_000_000]}


@pytest.fixture
def root(tmp_path):
    """Clips in which pixel (k, 0) of clip k fires each 100 us."""
    (tmp_path / "train").mkdir()
    for k, (name, labels) in enumerate(LABELS.items()):
        t = np.arange(100, 2_100_001, 100)
        same = np.ones(len(t), int)
        write_dat(tmp_path / "train" / f"{name}_td.dat", t, k * same, 0 * same, same, 64, 32)
        rows = [(when, 4, 4, 20, 20, k % 2, 0, 1.0) for when in labels]
        write_boxes(tmp_path / "train" / f"{name}_bbox.npy", np.array(rows, BOX_DTYPE))
    return tmp_path


def build(root, **options):
    options = {"sampling": "sequential", "num_steps": 2, "window_ms": 250} | options
    return create_dataset("gen1", "train", root=root, **options)


@pytest.mark.parametrize("labels", [*LABELS.values(), [3, 7, 1_000_003], [1, 249_000, 251_000, 999_999]])
def test_windows_tile_a_recording_and_end_at_every_label(labels):
    windows = sequential_windows(5, np.array(labels), 250_000, 11)
    assert windows["t0"][0] == 0 and (windows["t0"][1:] == windows["t1"][:-1]).all() and (windows["clip"] == 5).all()
    labelled = windows[windows["image_id"] > 0]
    assert labelled["t1"].tolist() == labels and labelled["image_id"].tolist() == list(range(11, 11 + len(labels)))
    assert windows["start"].tolist() == [True] + [False] * (len(windows) - 1) and windows["image_id"][-1] > 0
    length = windows["t1"] - windows["t0"]
    assert length.max() < 1.5 * 250_000
    gaps = np.diff([0, *labels])
    assert all(n > 2 / 3 * 250_000 - 1 or n in gaps for n in length)


def test_every_event_is_seen_once(root):
    data = build(root, num_steps=20)  # so that no count saturates
    for number, indices in enumerate(data.sequences):
        name = list(LABELS)[number]
        expected = len(open_dat(root / "train" / f"{name}_td.dat").read(0, max(LABELS[name])))
        assert sum(int(data[i].x.int().sum()) for i in indices) == expected


def test_labels_and_ids_are_those_of_random_sampling(root):
    one, other = build(root), build(root, sampling="random")
    assert one.ground_truth() == other.ground_truth() and one.expected_images == other.expected_images == len(other)
    labelled = [i for i in range(len(one)) if one[i].labelled]
    assert [one[i].image_id for i in labelled] == [other[i].image_id for i in range(len(other))]
    assert other.sequences is None and all(other[i].start and other[i].labelled for i in range(len(other)))
    assert all(len(one[i].boxes) == one[i].labelled for i in range(len(one)))


def test_windows_that_join_are_not_turned_round(root):
    with pytest.raises(ValueError, match="newest_first.*sequential"):
        build(root, newest_first=True)


def test_label_times_nearer_than_the_steps_are_named(tmp_path, root):
    rows = np.array([(when, 4, 4, 20, 20, 0, 0, 1.0) for when in (1000, 1001)], BOX_DTYPE)
    write_boxes(root / "train" / "a_bbox.npy", rows)
    with pytest.raises(ValueError, match="a_td.dat: the window that ends at 1001 us is shorter than 2 us"):
        build(root)


@pytest.mark.parametrize(("batch_size", "world_size"), [(1, 1), (2, 1), (3, 2), (5, 1)])
def test_training_rows_follow_recordings_and_every_sample_comes_once(root, batch_size, world_size):
    data = build(root)
    start_of = {i: s.start for s in data.sequences for i in s}
    seen = []
    for rank in range(world_size):
        sampler = StreamSampler(data.sequences, batch_size, 3, rank, world_size)
        indices = [key[0] for key in sampler]
        assert len(indices) == len(sampler) and len(indices) % batch_size == 0
        for row in range(batch_size):
            line = indices[row::batch_size]
            for before, after in zip(line, line[1:], strict=False):
                assert after == before + 1 or after == start_of[after] or after == line[0]
        seen += indices
    assert set(seen) == set(range(len(data))) and len(seen) - len(data) < batch_size * world_size


def test_training_order_changes_with_the_epoch_and_the_seed_only(root):
    def order(seed, epoch):
        sampler = StreamSampler(build(root).sequences, 2, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(3, 1) == order(3, 1)
    assert len({tuple(order(s, e)) for s in range(3) for e in range(3)}) > 5


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_evaluation_keeps_recordings_whole(root, batch_size):
    sequences = {s.start: list(s) for s in build(root).sequences}
    batches = stream_batches(list(sequences.values()), batch_size)
    begins = [i for i, batch in enumerate(batches) if all(index in sequences for index in batch)]
    played = []
    for begin, end in zip(begins, [*begins[1:], len(batches)], strict=True):
        rows = list(zip(*batches[begin:end], strict=True))
        assert len(rows) <= batch_size and max(len(sequences[row[0]]) for row in rows) == end - begin
        for row in rows:
            sequence = sequences[row[0]]
            assert list(row) == sequence + sequence[-1:] * (end - begin - len(sequence))
            played.append(sequence)
    assert sorted(played) == sorted(sequences.values())


@pytest.mark.parametrize("world_size", [2, 3, 9])
def test_evaluation_on_several_ranks_has_the_batches_of_one(root, world_size):
    sequences = build(root).sequences
    shares = [stream_batches(sequences, 2, rank, world_size) for rank in range(world_size)]
    assert sorted(sum(shares, [])) == sorted(stream_batches(sequences, 2))


def test_loaders_say_which_rows_begin_and_which_have_labels(root):
    data = build(root)
    for batch in eval_loader(data, 2):
        for i, (start, target) in enumerate(zip(batch.starts, batch.targets, strict=True)):
            assert (target is None) != (batch.image_ids[i] > 0) and start.dtype == torch.bool
    first = next(iter(eval_loader(data, 2)))
    assert first.starts.all() and first.x.shape[:2] == (2, 2)
    x, targets = first.to("cpu")
    assert targets == first.targets and x.dtype == torch.float32
    loader = train_loader(data, 2, seed=0, workers=2)
    alone = train_loader(data, 2, seed=0)
    for a, b in zip(loader, alone, strict=True):
        assert torch.equal(a.x, b.x) and torch.equal(a.starts, b.starts)


def test_augmentation_is_one_for_a_recording(root):
    data = build(root, augment={"hflip": 0.5, "translate": 0.2})
    for sequence in data.sequences:
        assert len({int(data[i].x.sum((0, 1, 2)).argmax()) for i in sequence}) == 1
    moved = [int(data[s.start].x.sum((0, 1, 2)).argmax()) - k for k, s in enumerate(data.sequences)]
    assert any(moved)
