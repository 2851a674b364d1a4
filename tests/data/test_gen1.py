"""The Gen1 dataset: the right events with the right boxes in the right place, whatever is missing or empty."""

import pickle

import numpy as np
import pytest
import torch
from recordings import WRITERS

from data import Problems, create_dataset, eval_loader, event_dataset, train_loader
from data.check import check_dataset
from data.events import lazy, open_dat, open_events, write_boxes, write_dat
from data.events.boxes import BOX_DTYPE
from engine.config import dataset_kwargs, load_config
from engine.protocols import get_protocol

DOT = (100, 60, 8, 6)  # x, y, w, h of the box around the one pixel that fires


def clip(folder, name, labels, last_us=1_000_000, width=304, height=240, events=True):
    """A clip whose pixel (103, 62) fires ON each millisecond, with a box at each of `labels` [us]."""
    folder.mkdir(parents=True, exist_ok=True)
    t = np.arange(1000, last_us + 1, 1000)
    if events:
        same = np.ones(len(t), int)
        write_dat(folder / f"{name}_td.dat", t, 103 * same, 62 * same, same, width, height)
    rows = [(when, *DOT, k % 2, k, 1.0) for k, when in enumerate(labels)]
    write_boxes(folder / f"{name}_bbox.npy", np.array(rows, BOX_DTYPE), old=True)


@pytest.fixture
def root(tmp_path):
    clip(tmp_path / "train", "drive_10", [249_999, 499_999])
    clip(tmp_path / "train", "drive_9", [749_999, 749_999, 999_999])
    return tmp_path


def build(root, **options):
    return create_dataset("gen1", "train", root=root, **options)


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


@pytest.mark.parametrize(
    ("size", "factor"),
    [((256, 320), 1), ((240, 304), 1), ((128, 160), 2), ((120, 152), 2), ((96, 128), 3), ((300, 160), 2)],
)
def test_size_divides_coordinates_evenly_and_fills_up(root, size, factor):
    data = build(root, size=size)
    sample = data[3]
    assert sample.x.shape[-2:] == size
    assert sample.x[:, 1, 62 // factor, 103 // factor].sum() == sample.x.sum() == 250
    np.testing.assert_allclose(sample.boxes, np.array([[100, 60, 108, 66]]) / factor, rtol=1e-6)
    np.testing.assert_allclose(sample.placement.to_original(sample.boxes), [[100, 60, 108, 66]], rtol=1e-6)
    np.testing.assert_allclose(data.box_sizes(), np.full((5, 2), [8, 6]) / factor, rtol=1e-6)
    assert data.box_sizes().dtype == np.float32


@pytest.fixture
def turning(tmp_path):
    """A clip whose pixel (103, 62) fires OFF until 125 ms and ON afterwards, with a box at 250 ms."""
    (tmp_path / "train").mkdir()
    t = np.arange(1000, 250_001, 1000)
    same = np.ones(len(t), int)
    write_dat(tmp_path / "train" / "a_td.dat", t, 103 * same, 62 * same, (t > 125_000).astype(int), 304, 240)
    write_boxes(tmp_path / "train" / "a_bbox.npy", np.array([(250_000, *DOT, 0, 0, 1)], BOX_DTYPE))
    return tmp_path


def test_last_event_frames(turning):
    data = build(turning, representation="last_event", num_steps=2, size=(240, 304))
    sample = data[0]
    assert (data.channels, data.scale) == (3, 1 / 255) and sample.x.shape == (2, 3, 240, 304)
    assert sample.x[:, :, 62, 103].tolist() == [[0] * 3, [255] * 3]
    assert (sample.x == 127).sum() == sample.x.numel() - 6
    assert sample.boxes.tolist() == [[100, 60, 108, 66]]


def test_newest_first(turning):
    for form in ("counts", "last_event"):
        plain, turned = (
            build(turning, representation=form, num_steps=4, newest_first=flag)[0] for flag in (False, True)
        )
        assert torch.equal(turned.x, plain.x.flip(0)) and not torch.equal(turned.x, plain.x)
        assert torch.equal(turned.boxes, plain.boxes)


def test_the_published_spikeyolo_frames(turning):
    """304 x 240 -> 320 x 253 in 320 x 320 on gray 114, the oldest step last."""
    cfg = load_config("configs/gen1/spikeyolo_s_published.yaml", [f"data.root={turning}"])
    data = create_dataset(cfg.data.name, "train", **dataset_kwargs(cfg, augment=True)[1])
    sample = data[0]
    assert sample.x.shape == (2, 3, 320, 320)
    assert (sample.x[:, :, :33] == 114).all() and (sample.x[:, :, 286:] == 114).all()
    inner = sample.x[:, :, 33:286]
    assert inner[0].max() > 150 and inner[1].min() < 100 and (inner == 127).float().mean() > 0.999
    scale_x, scale_y = 320 / 304, 253 / 240
    expected = [100 * scale_x, 60 * scale_y + 33, 108 * scale_x, 66 * scale_y + 33]
    np.testing.assert_allclose(sample.boxes, [expected], rtol=1e-6)
    np.testing.assert_allclose(sample.placement.to_original(sample.boxes), [[100, 60, 108, 66]], rtol=1e-5)
    np.testing.assert_allclose(data.box_sizes(), [[8 * scale_x, 6 * scale_y]], rtol=1e-6)
    y, x = np.unravel_index(int(sample.x[0, 0].argmax()), (320, 320))
    assert abs(x + 0.5 - 103.5 * scale_x) < 1 and abs(y + 0.5 - 33 - 62.5 * scale_y) < 1
    assert torch.equal(sample.x[:, 0], sample.x[:, 2])


def test_pad_fills_what_is_beyond_the_sensor(turning):
    counts = build(turning, pad=9, num_steps=2)[0].x
    assert (counts[..., 240:, :] == 9).all() and (counts[..., 304:] == 9).all() and counts[..., :240, :304].max() == 125
    assert (build(turning, representation="last_event", size=(320, 320))[0].x[:, :, :33] == 127).all()


def test_pad_may_be_what_the_type_of_the_frames_holds(turning):
    for form, pad in (("voxel_grid", -0.5), ("mixed_density", -3)):
        x = build(turning, representation=form, pad=pad)[0].x
        assert (x[..., 240:, :] == pad).all() and (x[..., :240, 304:] == pad).all() and (x[..., 0, 0] == 0).all()


def test_last_event_frames_are_mirrored_with_their_boxes(turning):
    sample = build(turning, representation="last_event", size=(240, 304), augment={"hflip": 1.0, "translate": 0.0})[0]
    assert sample.boxes.tolist() == [[196, 60, 204, 66]] and (sample.x[:, 0, 62, 200] != 127).all()


def test_counts_of_merged_cells_add_up(tmp_path):
    rng = np.random.default_rng(0)
    n = 20_000
    x, y = rng.integers(0, 304, n), rng.integers(0, 240, n)
    (tmp_path / "train").mkdir()
    write_dat(
        tmp_path / "train" / "a_td.dat", np.sort(rng.integers(1, 250_000, n)), x, y, rng.integers(0, 2, n), 304, 240
    )
    write_boxes(tmp_path / "train" / "a_bbox.npy", np.array([(250_000, *DOT, 0, 0, 1)], BOX_DTYPE))
    full, half = (build(tmp_path, size=s)[0].x.int() for s in ((240, 304), (120, 152)))
    assert torch.equal(full.view(5, 2, 120, 2, 152, 2).sum((3, 5)), half) and half.sum() == n


def test_ground_truth_is_in_pixels_of_the_sensor(root):
    truth = build(root, size=(120, 152)).ground_truth()
    assert [c["name"] for c in truth["categories"]] == ["car", "pedestrian"]
    assert [a["id"] for a in truth["annotations"]] == [1, 2, 3, 4, 5]
    assert [a["image_id"] for a in truth["annotations"]] == [1, 1, 2, 3, 4]
    assert [a["category_id"] for a in truth["annotations"]] == [1, 2, 1, 1, 2]
    assert all(a["bbox"] == list(DOT) and a["area"] == 48 and a["iscrowd"] == 0 for a in truth["annotations"])
    assert all((i["width"], i["height"]) == (304, 240) for i in truth["images"])


def test_rules_leave_labels_out_of_samples_and_of_the_ground_truth(root, caplog):
    with caplog.at_level("INFO"):
        data = build(root, labels={"from_ms": 500})
    assert len(data) == data.expected_images == len(data.ground_truth()["images"]) == 2
    assert len(data.ground_truth()["annotations"]) == len(data.box_sizes()) == 3
    assert data.left_out == {"before 500 ms": 2} and data.problems.items == []
    assert [r.getMessage() for r in caplog.records] == [f"{root}: split 'train': labels left out: 2 before 500 ms"]


def test_a_clip_whose_labels_fall_to_the_rules_is_no_sample(root):
    data = build(root, labels={"from_ms": 600})
    assert {i["clip"] for i in data.ground_truth()["images"]} == {"drive_9"} and len(data) == data.expected_images == 2
    data = build(root, labels={"drop_clips": ["drive_9"]})
    assert {i["clip"] for i in data.ground_truth()["images"]} == {"drive_10"}
    assert data.expected_images == 2 and data.left_out == {"clips by name": 1}


def test_a_rule_for_training_leaves_the_evaluation_alone(root):
    clip(root / "val", "wide", [500_000])
    narrow = {"max_width_share": 7 / 304}
    with pytest.raises(ValueError, match="no label time"):
        build(root, labels=narrow)
    assert len(create_dataset("gen1", "val", root=root, labels=narrow)) == 1


def test_splits_join_folders(root):
    clip(root / "val", "drive_1", [500_000])
    clip(root / "test", "drive_2", [500_000, 750_000])

    def clips(split, **options):
        images = create_dataset("gen1", split, root=root, **options).ground_truth()["images"]
        assert [i["id"] for i in images] == list(range(1, len(images) + 1))
        return list(dict.fromkeys(i["file_name"] for i in images))

    train, val, test = (
        ["train/drive_9_td.dat", "train/drive_10_td.dat"],
        ["val/drive_1_td.dat"],
        ["test/drive_2_td.dat"],
    )
    assert clips("train") == train and clips("train+val") == train + val
    assert [clips(s, splits="spikeyolo") for s in ("train", "val", "test")] == [train, test, test]
    assert [clips(s, splits="eas_snn") for s in ("train", "val", "test")] == [train + val, test, test]
    assert (
        clips("train", splits={"train": ["val", "test"]}) == val + test and clips("mine", splits={"mine": "val"}) == val
    )


def other_recording(folder, name, write, labels=(500_000,)):
    """The clip of `clip`, its recording in another format."""
    clip(folder, name, labels, events=False)
    t = np.arange(1000, 1_000_001, 1000)
    same = np.ones(len(t), int)
    write(folder, t, 103 * same, 62 * same, same)


@pytest.mark.parametrize(
    ("ending", "kind"), [("_td.dat.h5", "packed.h5"), ("_td.npz", "a.npz"), ("_td.raw", "evt3.raw")]
)
def test_recordings_of_other_formats_are_opened_when_they_are_read(root, ending, kind, monkeypatch):
    other_recording(root / "train", "drive_11", lambda f, *e: WRITERS[kind](f / f"drive_11{ending}", *e))
    other_recording(root / "train", "drive_12", lambda f, *e: WRITERS[kind](f / f"drive_12{ending}", *e))
    opened = []
    monkeypatch.setattr(lazy, "open_events", lambda path, *a: (opened.append(path.name), open_events(path, *a))[1])
    data = build(root)
    assert opened == []
    assert (len(data), data.expected_images) == (6, 6) and data.ground_truth()["images"][5]["clip"] == "drive_12"
    assert data[5].x[:, 1, 62, 103].tolist() == [50] * 5 and data[5].original_size == (240, 304)
    assert opened == [f"drive_12{ending}"]
    assert torch.equal(pickle.loads(pickle.dumps(data))[4].x, data[5].x)
    assert data.recordings[2:] == [root / "train" / f"drive_{k}{ending}" for k in (11, 12)]


def test_a_named_sensor_saves_the_first_opening_and_is_compared_when_read(root):
    other_recording(root / "train", "drive_11", lambda f, *e: WRITERS["a.npz"](f / "drive_11_td.npz", *e))
    (root / "train" / "drive_12_td.npz").write_bytes(b"no recording")
    clip(root / "train", "drive_12", [500_000], events=False)
    data = build(root, sensor=(240, 304))
    assert len(data) == 6 and data[4].x.sum() == 250
    with pytest.raises(ValueError, match="drive_12_td.npz"):
        data[5]
    with pytest.raises(ValueError, match="drive_11_td.npz.*240, 304.*not .*480, 640"):
        build(root, sensor=(480, 640), size=(480, 640))[4]
    with pytest.raises(ValueError, match="sensor = .240."):
        build(root, sensor=[240])


def test_a_recording_without_a_sensor_size_needs_the_option(root):
    for path in root.glob("train/*.dat"):
        path.unlink()
    t = np.arange(1000, 1_000_001, 1000)
    same = np.ones(len(t), np.uint16)
    np.savez(root / "train" / "drive_9_td.npz", t=t, x=103 * same, y=62 * same, p=same.astype(np.uint8))
    (root / "train" / "drive_10_bbox.npy").unlink()
    with pytest.raises(ValueError, match="drive_9_td.npz: names no sensor size. Give it as `sensor`"):
        build(root)
    assert build(root, sensor=(240, 304))[0].x.sum() == 250


def test_the_check_takes_the_options_and_reads_recordings_of_all_formats(root):
    clip(root / "test", "drive_1", [500_000])
    path = root / "test" / "drive_2_td.npz"
    other_recording(root / "test", "drive_2", lambda f, *e: WRITERS["a.npz"](path, *e))
    report = check_dataset("gen1", ["train", "val"], root=root, splits="spikeyolo", labels="spikeyolo")
    assert not report.fatal and (report.splits["train"].images, report.splits["val"].images) == (4, 2)
    path.write_bytes(path.read_bytes()[:-40])
    other_recording(root / "test", "drive_0", lambda f, *e: WRITERS["a.npz"](f / "drive_0_td.npz", *e))
    problems = check_dataset("gen1", ["train", "val"], root=root, splits="spikeyolo").fatal
    assert [(p.kind, p.file) for p in problems] == [("unreadable recording", path)]
    (first, *_) = check_dataset("gen1", ["test"], root=root, sensor=(480, 640), size=(480, 640)).fatal
    assert first.file == root / "test" / "drive_0_td.npz" and "the file names (height, width) (240, 304)" in str(first)


def test_the_original_is_read_where_a_copy_lies_beside_it(root):
    (root / "train" / "drive_9_td.dat.h5").write_bytes(b"no recording")
    assert len(build(root)) == 4 and build(root).recordings[0].name == "drive_9_td.dat"


def test_other_classes_are_left_out_and_counted(root):
    data = build(root, label_names=["car", "pedestrian"], classes=["pedestrian"])
    assert data.class_names == ["pedestrian"] and data.left_out == {"of class 'car'": 3}
    assert all(data[k].labels.tolist() == [0] for k in range(len(data)))
    assert (len(data), data.expected_images) == (2, 2)
    with pytest.raises(ValueError, match="no class 'pedestrain', did you mean 'pedestrian'"):
        build(root, label_names=["car", "pedestrian"], classes=["pedestrain"])


def test_boxes_of_a_phantom_stay(tmp_path):
    """Gen1 has constant boxes without an object, whose track ids change: no rule takes them for bad."""
    (tmp_path / "train").mkdir()
    clip(tmp_path / "train", "a", list(range(250_000, 1_000_001, 250_000)))
    for name in ("all", "ems_yolo", "spikeyolo", "eas_snn"):
        data = build(tmp_path, labels=name)
        assert len(data) == 4 and not data.left_out and not data.problems.items


def test_duplicates_of_a_track_and_boxes_past_the_frame(tmp_path):
    clip(tmp_path / "train", "a", [500_000])
    rows = [
        (500_000, 10, 10, 20, 20, 0, 7, 1),
        (500_000, 290, 200, 100, 60, 1, 8, 1),
        (500_000, 12, 10, 20, 20, 0, 7, 1),
    ]
    write_boxes(tmp_path / "train" / "a_bbox.npy", np.array(rows, BOX_DTYPE))
    data = build(tmp_path)
    assert [a["bbox"] for a in data.ground_truth()["annotations"]] == [[290, 200, 14, 40], [12, 10, 20, 20]]
    assert data.problems.counts() == {"repeated box": 1, "box partly outside the sensor": 1}
    cut = build(tmp_path, labels={"last_pixel": True})
    assert [a["bbox"] for a in cut.ground_truth()["annotations"]] == [[290, 200, 13, 39], [12, 10, 20, 20]]


def test_a_clip_without_objects_is_one_negative_sample(tmp_path):
    clip(tmp_path / "train", "empty", [], last_us=800_000)
    clip(tmp_path / "train", "labelled", [500_000])
    data = build(tmp_path, augment={"hflip": 1.0, "translate": 0.1})
    assert len(data) == data.expected_images == 2
    sample = data[0]
    assert sample.boxes.shape == (0, 4) and sample.labels.shape == (0,) and sample.x.sum() == 250
    assert data.ground_truth()["images"][0]["t_us"] == 800_000
    assert [a["image_id"] for a in data.ground_truth()["annotations"]] == [2]
    batch = next(iter(eval_loader(data, 2)))
    assert batch.x.shape == (5, 2, 2, 256, 320) and [len(t["boxes"]) for t in batch.targets] == [0, 1]


def test_a_recording_without_events_is_a_sample(tmp_path):
    clip(tmp_path / "train", "dark", [], last_us=0)
    assert build(tmp_path)[0].x.sum() == 0


def test_a_clip_whose_labels_are_all_invalid_is_no_sample(root):
    bad = np.array([(500_000, 10, 10, 0, 5, 0, 0, 1.0)], BOX_DTYPE)
    write_boxes(root / "train" / "drive_9_bbox.npy", bad)
    data = build(root)
    assert len(data) == data.expected_images == 2
    assert data.problems.counts() == {"box without size": 1}


def test_missing_files(root):
    (root / "train" / "drive_9_td.dat").unlink()
    with pytest.raises(ValueError, match=r"drive_9_td.dat: no such file.*set allow_missing"):
        build(root)
    data = build(root, allow_missing=True)
    assert (len(data), data.expected_images, len(data.ground_truth()["images"])) == (2, 4, 2)
    assert data[0].image_id == data.ground_truth()["images"][0]["id"]
    (root / "train" / "drive_10_bbox.npy").unlink()
    with pytest.raises(ValueError, match="recording without labels.*save an empty array"):
        build(root, allow_missing=True)


def test_a_folder_without_clips_is_named(root):
    with pytest.raises(ValueError, match="trian: no such folder"):
        create_dataset("gen1", "trian", root=root)
    (root / "val").mkdir()
    with pytest.raises(ValueError, match=r"val: holds no \*_bbox.npy with a recording of the same name \(\*_td.dat, "):
        create_dataset("gen1", "val", root=root)


def test_a_bad_recording_stops_the_run_but_not_the_check(root):
    path = root / "train" / "drive_9_td.dat"
    raw = path.read_bytes()
    cut = raw.index(b"\x0c\x08") + 1
    path.write_bytes(raw[:cut] + b"\x10" + raw[cut + 1 :])
    with pytest.raises(ValueError, match="drive_9_td.dat.*wrong record size: 16"):
        build(root)
    assert len(build(root, problems=Problems(collect=True))) == 2


def test_an_unknown_class_names_the_file(root):
    with pytest.raises(ValueError, match="drive_9_bbox.npy: record 1: class id out of range: 1"):
        build(root, classes=("car",))


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
        ({"labels": "spikeyollo"}, "labels = 'spikeyollo', did you mean 'spikeyolo'"),
        ({"labels": {"min_sides": 3}}, "labels has no argument 'min_sides', did you mean 'min_side'"),
        ({"splits": "eas-snn"}, "splits = 'eas-snn', did you mean 'eas_snn'"),
        ({"splits": {"train": []}}, "splits: 'train' = "),
    ],
)
def test_bad_options_are_named(root, options, says):
    with pytest.raises(ValueError, match=says):
        build(root, **options)


def test_clips_of_different_sensors_need_a_size(root):
    clip(root / "train", "large", [500_000], width=608, height=480)
    with pytest.raises(ValueError, match="different sensors.*304x240.*608x480.*Set `size`"):
        build(root)
    problems = Problems()
    data = build(root, size=(240, 320), problems=problems)
    assert "2 of 304x240, 1 of 608x480. All coordinates are divided by 2" in problems.summary()
    assert [s.placement.scale_x for s in (data[0], data[4])] == [0.5, 0.5]
    assert data[4].original_size == (480, 608) and data[0].original_size == (240, 304)


def test_augmentation_moves_frames_and_boxes_within_the_sensor(root):
    data = build(root, augment={"hflip": 1.0})
    sample = data[3]
    assert sample.boxes.tolist() == [[304 - 108, 60, 304 - 100, 66]]
    assert sample.x[:, 1, 62, 303 - 103].sum() == sample.x.sum() == 250


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
    monkeypatch.setattr(event_dataset, "OPEN_MAPS", 3)
    for k in range(8):
        clip(root / "train", f"more_{k}", [500_000])
    data = build(root)
    before = [data[i].x for i in range(len(data))]
    assert sum(r._map is not None for r in (c.reader for c in data._clips)) == 3
    again = pickle.loads(pickle.dumps(data))
    assert all(r._map is None for r in (c.reader for c in again._clips))
    for index in np.random.default_rng(0).permutation(np.repeat(np.arange(len(data)), 3)):
        assert torch.equal(again[int(index)].x, before[index])


def test_windows_join_without_gap_or_overlap(tmp_path):
    labels = list(range(50_000, 1_000_001, 50_000))
    clip(tmp_path / "train", "a", labels)
    data = build(tmp_path, window_ms=50, num_steps=3)
    assert sum(int(data[i].x.sum()) for i in range(len(data))) == len(open_dat(tmp_path / "train" / "a_td.dat"))


def test_label_times_without_a_recording_are_counted(root):
    """Labels at 0.25, 0.5, 0.75 s of a recording cut after 0.3 s: the last window of 0.25 s begins after it."""
    clip(root / "train", "short", [249_999, 499_999, 749_999], last_us=300_000)
    problems = Problems()
    data = build(root, problems=problems)
    assert len(data) == data.expected_images == 7
    said = "short_td.dat: label time 749999 us: labels after the recording: the last event is at 300000 us; 1 of 3 "
    assert problems.counts() == {"labels after the recording": 1} and said in problems.summary()
    problems = Problems()
    build(root, problems=problems, window_ms=100, sampling="sequential")
    assert "2 of 3 samples begin after it" in problems.summary()
    with pytest.raises(ValueError, match="labels after the recording.*strict"):
        build(root, problems=Problems(strict=True))
    assert check_dataset("gen1", ["train"], root=root).problems.counts()["labels after the recording"] == 1


def test_the_check_counts_label_times_after_recordings_of_other_formats(root):
    columns = np.arange(1000, 300_001, 1000), *np.ones((3, 300), int)
    WRITERS["a.npz"](root / "train" / "short_td.npz", *columns)
    clip(root / "train", "short", [249_999, 499_999, 749_999], events=False)
    assert build(root).problems.counts() == {}  # it is not opened yet
    report = check_dataset("gen1", ["train"], root=root)
    assert report.problems.counts()["labels after the recording"] == 1 and not report.fatal


def test_joined_folders_may_hold_clips_of_one_name(root):
    clip(root / "val", "drive_9", [749_999])
    data = create_dataset("gen1", "train+val", root=root)
    truth = data.ground_truth()
    assert [i["clip"] for i in truth["images"]] == ["drive_9", "drive_9", "drive_10", "drive_10", "val/drive_9"]
    assert get_protocol("toolbox").score(truth, [])["AP"] == 0


def test_the_check_says_why_no_recording_can_be_opened(root):
    for path in (root / "train").glob("*_td.dat"):
        path.rename(path.with_name(path.name.replace(".dat", ".npz")))
        path.with_name(path.name.replace(".dat", ".npz")).write_bytes(b"PK\x03\x04 and no more")
    (problem,) = check_dataset("gen1", ["train"], root=root).fatal
    assert "drive_9_td.npz: not a readable .npz" in str(problem)


def test_the_end_of_a_recording_is_known_past_a_wrap_of_its_clock(tmp_path):
    t = np.array([0, 2**31, 2**32 - 1, 2**32 + 5_000_000])
    write_dat(tmp_path / "a_td.dat", t, 0 * t, 0 * t, 0 * t, 304, 240)
    reader = open_dat(tmp_path / "a_td.dat")
    assert reader.ends_after(4_999_999) and reader.ends_after(5_000_000) and reader.ends_after(2**32 + 4_999_999)
    assert not reader.ends_after(2**32 + 5_000_000)


def test_label_times_in_milliseconds_are_suspected(root):
    clip(root / "train", "ms", [249, 499, 749])
    problems = Problems()
    build(root, problems=problems)
    assert "ms_bbox.npy: label times close together: 250 us apart" in problems.summary()


def test_a_root_too_high_or_too_low_is_answered_with_the_right_one(tmp_path):
    root = tmp_path / "gen1"
    clip(root / "train", "a", [500_000])
    for wrong in (root.parent, root / "train"):
        with pytest.raises(ValueError, match=f"no such folder, did you mean root = {root}[?]"):
            build(wrong)


def test_a_cut_recording_is_reported_and_strict_refuses_it(root):
    path = root / "train" / "drive_9_td.dat"
    path.write_bytes(path.read_bytes()[:-3])
    problems = Problems()
    assert len(build(root, problems=problems)) == 4 and problems.counts() == {"truncated last record": 1}
    with pytest.raises(ValueError, match="drive_9_td.dat: record 999: truncated last record.*strict"):
        build(root, problems=Problems(strict=True))
    assert check_dataset("gen1", ["train"], root=root).problems.counts()["truncated last record"] == 1
