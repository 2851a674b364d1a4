"""The Gen1 dataset: events and boxes of every label time, and options that are refused."""

import pickle

import numpy as np
import pytest
import torch
from gen1_folder import DOT, build, two_drives, write_clip

from data import train_loader
from data.events import clip
from data.recordings import open_dat


@pytest.fixture
def root(tmp_path):
    return two_drives(tmp_path)


def test_one_sample_per_clip_and_label_time_in_natural_order(root):
    data = build(root)
    assert (len(data), data.expected_images, data.num_steps, data.channels, data.scale) == (4, 4, 5, 2, 1.0)
    images = data.ground_truth()["images"]
    assert [(i["clip"], i["t_us"]) for i in images] == [
        ("drive_9", 749_999),
        ("drive_9", 999_999),
        ("drive_10", 249_999),
        ("drive_10", 499_999),
    ]
    assert [data[k].image_id for k in range(4)] == [i["id"] for i in images]
    assert [len(data[k].boxes) for k in range(4)] == [2, 1, 1, 1]


def test_a_sample_holds_the_events_before_its_label(root):
    """One event per ms at t = 1000 k: (499,999 - 250,000, 499,999] holds those of k = 250 ... 499, 50 in each step."""
    sample = build(root)[3]
    assert sample.x.dtype == torch.uint8 and sample.x.shape == (5, 2, 256, 320)
    assert sample.x[:, 1, 62, 103].tolist() == [50] * 5 and sample.x.sum() == 250
    assert sample.boxes.tolist() == [[100, 60, 108, 66]] and sample.labels.tolist() == [1]
    assert (sample.boxes.dtype, sample.labels.dtype) == (torch.float32, torch.int64)
    assert sample.original_size == (240, 304)
    # 100 ms before 249,999 us, in 4 steps: events 150 ... 249
    sample = build(root, window_ms=100, num_steps=4)[2]
    assert sample.x[:, 1, 62, 103].tolist() == [25] * 4
    assert build(root, representation={"name": "counts", "clip": 8})[3].x.max() == 8


def test_a_window_may_begin_before_the_recording(root):
    sample = build(root, window_ms=500)[2]  # (-250,001, 249,999]
    assert sample.x[:, 1, 62, 103].tolist() == [0, 0, 49, 100, 100]


def test_ground_truth_is_in_pixels_of_the_sensor(root):
    truth = build(root, size=(120, 152)).ground_truth()
    assert [c["name"] for c in truth["categories"]] == ["car", "pedestrian"]
    assert [a["id"] for a in truth["annotations"]] == [1, 2, 3, 4, 5]
    assert [a["image_id"] for a in truth["annotations"]] == [1, 1, 2, 3, 4]
    assert [a["category_id"] for a in truth["annotations"]] == [1, 2, 1, 1, 2]
    assert all(a["bbox"] == list(DOT) and a["area"] == 48 and a["iscrowd"] == 0 for a in truth["annotations"])
    assert all((i["width"], i["height"]) == (304, 240) for i in truth["images"])


def test_a_recording_without_events_is_a_sample(tmp_path):
    write_clip(tmp_path / "train", "dark", [], last_us=0)
    assert build(tmp_path)[0].x.sum() == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_steps": 0}, "num_steps = 0"),
        ({"window_ms": 0.002}, "does not fit a window"),
        ({"representation": {"name": "counts", "clip": 300}}, "clip = 300"),
        ({"representation": "count"}, "representation 'count', did you mean 'counts'"),
        ({"num_steps": 2.5}, "num_steps = 2.5: give a whole number"),
        ({"window_ms": "long"}, "window_ms = 'long': give a number"),
        ({"newest_first": "maybe"}, "newest_first = 'maybe': give true or false"),
        ({"classes": "car"}, "classes = car. Give a list"),
        ({"classes": ["car", "car"]}, "classes: name 1 is 'car'"),
        ({"sensor": 240}, "sensor = 240: give"),
        ({"pad": 256}, "pad = 256: give a whole number from 0 to 255"),
        ({"pad": 0.5}, "pad = 0.5: give a whole number"),
        ({"pad": "gray"}, "pad = 'gray'"),
        ({"pad": 200, "representation": "mixed_density"}, "pad = 200: give a whole number from -128 to 127"),
        ({"pad": float("nan"), "representation": "voxel_grid"}, "pad = nan: give a number"),
        ({"size": (0, 320)}, "size ="),
        ({"size": (1, 2, 3)}, "size ="),
        ({"augment": {"hflp": 0.5}}, "'hflp', did you mean 'hflip'"),
        ({"augment": {"hflip": 2}}, "hflip = 2"),
        ({"window": 250}, "did you mean 'window_ms'"),
        ({"labels": {"from_ms": 5000}}, "no label time is kept. Labels left out: 5 before 5000 ms"),
        ({"labels": {"drop_clips": ["drive_9", "drive_10"]}}, "Labels left out: 2 clips by name"),
        ({"labels": "last_of_trak"}, "labels = 'last_of_trak', did you mean 'last_of_track'"),
        ({"labels": {"min_sides": 3}}, "labels has no argument 'min_sides', did you mean 'min_side'"),
        ({"splits": "eas-snn"}, "splits = 'eas-snn', did you mean 'eas_snn'"),
        ({"splits": {"train": []}}, "splits: train = "),
    ],
)
def test_bad_options_are_named(root, options, says):
    with pytest.raises(ValueError, match=says):
        build(root, **options)


def test_loaders_give_the_same_with_any_number_of_workers(root):
    data = build(root, augment={"hflip": 0.5, "translate": 0.2, "polarity": 0.5})

    def epochs(workers):
        loader = train_loader(data, 2, seed=3, workers=workers)
        for epoch in range(3):
            loader.sampler.set_epoch(epoch)
            yield [batch.x for batch in loader]

    alone, shared = list(epochs(0)), list(epochs(2))
    for a, b in zip(sum(alone, []), sum(shared, []), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(alone[0][0], alone[1][0])


def test_pickling_and_few_open_files(root, monkeypatch):
    monkeypatch.setattr(clip, "OPEN_FILES", 3)
    for k in range(8):
        write_clip(root / "train", f"more_{k}", [500_000])
    data = build(root)
    before = [data[i].x for i in range(len(data))]
    assert sum(r._map is not None for r in (c.reader for c in data._clips)) == 3
    again = pickle.loads(pickle.dumps(data))
    assert all(r._map is None for r in (c.reader for c in again._clips))
    for index in np.random.default_rng(0).permutation(np.repeat(np.arange(len(data)), 3)):
        assert torch.equal(again[int(index)].x, before[index])


def test_windows_join_without_gap_or_overlap(tmp_path):
    labels = list(range(50_000, 1_000_001, 50_000))
    write_clip(tmp_path / "train", "a", labels)
    data = build(tmp_path, window_ms=50, num_steps=3)
    assert sum(int(data[i].x.sum()) for i in range(len(data))) == len(open_dat(tmp_path / "train" / "a_td.dat"))
