"""Windows before each label: how many, where they lie, and what a detector is shown of them."""

import numpy as np
import pytest
import torch

from data import create_dataset, eval_loader
from data.events.history import history_lengths, history_windows, windows_before
from data.events.windows import label_windows, sequential_windows


def test_in_sequence_each_label_ends_its_own_and_the_windows_before_it():
    whole = sequential_windows(3, np.array([300_000, 350_000, 1_000_000]), 100_000, 7)  # 3, 1 and 6 or 7 windows
    for count in (1, 2, 4, 100, None):
        found = history_windows(whole, count)
        ends = np.flatnonzero(found["image_id"])
        assert found["image_id"][ends].tolist() == [7, 8, 9]
        starts = np.flatnonzero(found["start"])
        for start, end, available in zip(starts, ends, np.flatnonzero(whole["image_id"]) + 1, strict=True):
            part, n = found[start : end + 1], int(available if count is None else min(count, available))
            assert len(part) == n and not part["start"][1:].any() and not part["image_id"][:-1].any()
            for time in ("t0", "t1", "clip"):
                assert part[time].tolist() == whole[available - n : available][time].tolist()
        lengths = history_lengths(found)
        assert lengths[:, 0].tolist() == [end - start + 1 for start, end in zip(starts, ends, strict=True)]
        assert lengths[:, 1].tolist() == (found["t1"][ends] - found["t0"][starts]).tolist()


def test_recordings_are_not_joined():
    both = np.concatenate([sequential_windows(k, np.array([200_000]), 100_000, k + 1) for k in range(2)])
    found = history_windows(both, 3)
    assert found["clip"].tolist() == [0, 0, 1, 1] and history_lengths(found)[:, 0].tolist() == [2, 2]
    assert history_lengths(both).tolist() == [[2, 200_000], [2, 200_000]]


def test_at_random_windows_are_as_long_as_the_labels_own():
    own = label_windows(0, np.array([60_000, 350_000]), 100_000, 1)
    found = windows_before(own, 3, [0])
    assert found["t1"].tolist() == [60_000, 150_000, 250_000, 350_000]
    assert (found["t1"] - found["t0"] == 100_000).all()
    assert found["start"].tolist() == [True, True, False, False] and found["image_id"].tolist() == [1, 0, 0, 2]
    assert np.array_equal(windows_before(own, 1, [0]), own)
    assert windows_before(own, None, [0])["t1"].tolist() == [60_000, 50_000, 150_000, 250_000, 350_000]
    assert windows_before(own, None, [150_000])["t1"].tolist() == [60_000, 250_000, 350_000]
    assert history_lengths(found).tolist() == [[1, 100_000], [3, 300_000]]


@pytest.mark.parametrize("sampling", ["random", "sequential"])
def test_a_dataset_with_history(scenes_root, sampling):
    data = create_dataset("gen1", "test", root=scenes_root, num_steps=2, sampling=sampling, window_ms=50)
    again = data.with_history(3)
    assert again.ground_truth() == data.ground_truth() and len(data.with_history(1)) == len(data.histories)
    assert again.sequences is not None and (again.histories[:, 0] <= 3).all() and (again.histories[:, 0] == 3).any()
    plain = {data[i].image_id: data[i] for i in range(len(data))}
    seen = []
    for batch in eval_loader(again, 4):
        for row, target in enumerate(batch.targets):
            if target is not None:
                own = plain[batch.image_ids[row]]
                assert torch.equal(batch.x[:, row], own.x) and torch.equal(target["boxes"], own.boxes)
                seen.append(batch.image_ids[row])
    assert set(seen) == {image["id"] for image in data.ground_truth()["images"]}
    assert (data.sequences is None) == (sampling == "random")


def test_recordings_with_one_label_have_no_history(scenes_root):
    data = create_dataset("gen1", "test", root=scenes_root, num_steps=2, window_ms=50)
    data._clips[0].from_first = object()
    with pytest.raises(ValueError, match="split 'test': each recording is one sample from its start"):
        data.with_history(2)


@pytest.fixture(scope="module")
def scenes_root(tmp_path_factory):
    from data.scenes import generate_scenes

    root = tmp_path_factory.mktemp("history") / "scenes"
    return generate_scenes(root, train=1, val=1, test=2, seconds=0.6, width=64, height=64, train_label_hz=8)
