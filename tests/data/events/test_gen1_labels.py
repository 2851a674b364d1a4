"""Labels of Gen1: filtered boxes, label times of samples, and problems of doubtful labels."""

import numpy as np
import pytest
from gen1_folder import build, two_drives, write_clip
from recording_files import WRITERS

from data import Problems, create_dataset, eval_loader
from data.check import check_dataset
from data.recordings import Span, open_dat, write_boxes, write_dat
from data.recordings.boxes import BOX_DTYPE


@pytest.fixture
def root(tmp_path):
    return two_drives(tmp_path)


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
    write_clip(root / "val", "wide", [500_000])
    narrow = {"max_width_share": 7 / 304}
    with pytest.raises(ValueError, match="no label time"):
        build(root, labels=narrow)
    assert len(create_dataset("gen1", "val", root=root, labels=narrow)) == 1


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
    write_clip(tmp_path / "train", "a", list(range(250_000, 1_000_001, 250_000)))
    for name in ("all", "last_of_track", "eas_snn"):
        data = build(tmp_path, labels=name)
        assert len(data) == 4 and not data.left_out and not data.problems.items


def test_duplicates_of_a_track_and_boxes_past_the_frame(tmp_path):
    write_clip(tmp_path / "train", "a", [500_000])
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


def test_boxes_without_tracks_are_all_there(tmp_path):
    write_clip(tmp_path / "train", "a", [500_000])
    rows = [(120, 20, 60, 40, 0), (220, 60, 20, 60, 1), (10, 20, 50, 40, 0), (10, 20, 50, 40, 0)]
    for track in (0, -1):
        fields = [(n, "i4" if n == "track_id" else BOX_DTYPE[n]) for n in BOX_DTYPE.names]
        boxes = np.array([(500_000, *row, track, 1) for row in rows], fields)
        np.save(tmp_path / "train" / "a_bbox.npy", boxes)
        for labels in ("all", "last_of_track", "eas_snn"):
            data = build(tmp_path, labels=labels)
            truth = data.ground_truth()["annotations"]
            assert [a["bbox"] for a in truth] == [list(row[:4]) for row in rows[:3]]
            assert {a["track_id"] for a in truth} == {track}
            assert data.problems.counts() == {"repeated box": 1} and not data.left_out


def test_a_clip_without_objects_is_one_negative_sample(tmp_path):
    write_clip(tmp_path / "train", "empty", [], last_us=800_000)
    write_clip(tmp_path / "train", "labelled", [500_000])
    data = build(tmp_path, augment={"hflip": 1.0, "translate": 0.1})
    assert len(data) == data.expected_images == 2
    sample = data[0]
    assert sample.boxes.shape == (0, 4) and sample.labels.shape == (0,) and sample.x.sum() == 250
    assert data.ground_truth()["images"][0]["t_us"] == 800_000
    assert [a["image_id"] for a in data.ground_truth()["annotations"]] == [2]
    batch = next(iter(eval_loader(data, 2)))
    assert batch.x.shape == (5, 2, 2, 256, 320) and [len(t["boxes"]) for t in batch.targets] == [0, 1]


def test_a_clip_whose_labels_are_all_invalid_is_no_sample(root):
    bad = np.array([(500_000, 10, 10, 0, 5, 0, 0, 1.0)], BOX_DTYPE)
    write_boxes(root / "train" / "drive_9_bbox.npy", bad)
    data = build(root)
    assert len(data) == data.expected_images == 2
    assert data.problems.counts() == {"box without size": 1}


def test_an_unknown_class_names_the_file(root):
    with pytest.raises(ValueError, match="drive_9_bbox.npy: record 1: class id out of range: 1"):
        build(root, classes=("car",))


def test_label_times_without_a_recording_are_counted(root):
    """Labels at 0.25, 0.5, 0.75 s of a recording cut after 0.3 s: the last window of 0.25 s begins after it."""
    write_clip(root / "train", "short", [249_999, 499_999, 749_999], last_us=300_000)
    problems = Problems()
    data = build(root, problems=problems)
    assert len(data) == data.expected_images == 7
    said = (
        "short_td.dat: label time 749999 us: labelled windows without events: 1 of 3 labelled windows hold no events, "
    )
    said += "the first event is at 1000 us, the last at 300000 us. They are kept"
    assert problems.counts() == {"labelled windows without events": 1} and said in problems.summary()
    problems = Problems()
    build(root, problems=problems, window_ms=100, sampling="sequential")
    assert "2 of 3 labelled windows hold no events" in problems.summary()
    with pytest.raises(ValueError, match="labelled windows without events.*strict"):
        build(root, problems=Problems(strict=True))
    assert check_dataset("gen1", ["train"], root=root).problems.counts()["labelled windows without events"] == 1


def test_label_times_after_recordings_of_other_formats_are_counted_without_a_pass(root):
    columns = np.arange(1000, 300_001, 1000), *np.ones((3, 300), int)
    WRITERS["a.npz"](root / "train" / "short_td.npz", *columns)
    write_clip(root / "train", "short", [249_999, 499_999, 749_999], events=False)
    assert build(root).problems.counts() == {"labelled windows without events": 1}
    report = check_dataset("gen1", ["train"], root=root)
    assert report.problems.counts()["labelled windows without events"] == 1 and not report.fatal


def test_the_end_of_a_recording_is_known_past_a_wrap_of_its_clock(tmp_path):
    t = np.array([0, 2**31, 2**32 - 1, 2**32 + 5_000_000])
    write_dat(tmp_path / "a_td.dat", t, 0 * t, 0 * t, 0 * t, 304, 240)
    reader = open_dat(tmp_path / "a_td.dat")
    assert reader.span() == Span(0, 5_000_000)  # without a pass, as if the clock had not wrapped
    assert reader.span(exact=True) == Span(0, 2**32 + 5_000_000)
    write_boxes(tmp_path / "a_bbox.npy", np.array([(2**32 + 5_200_000, 9, 9, 20, 20, 0, 0, 1)], BOX_DTYPE))
    (tmp_path / "train").mkdir()
    for path in tmp_path.glob("a_*"):
        path.rename(tmp_path / "train" / path.name)
    build(tmp_path, problems=Problems(strict=True))  # its window holds the last event


def test_label_times_in_milliseconds_are_suspected(root):
    write_clip(root / "train", "ms", [249, 499, 749])
    problems = Problems()
    build(root, problems=problems)
    assert "ms_bbox.npy: label times close together: 250 us apart" in problems.summary()
