"""`_bbox.npy` labels: both field orders; every kind of bad box is dropped or repaired, and counted."""

import numpy as np
import pytest

from data import Problems
from data.recordings import read_boxes, write_boxes
from data.recordings.boxes import BOX_DTYPE, NO_TRACK, OLD_BOX_DTYPE

GOOD = (249_999, 10.0, 20.0, 30.0, 40.0, 1, 7, 0.5)  # t, x, y, w, h, class_id, track_id, class_confidence


def boxes_of(*rows):
    return np.array(list(rows), BOX_DTYPE)


def read(path, problems=None, classes=2):
    return read_boxes(path, 304, 240, classes, problems or Problems())


@pytest.mark.parametrize("old", [False, True])
def test_round_trip(tmp_path, old):
    path = tmp_path / "a_bbox.npy"
    boxes = boxes_of(GOOD, (499_999, 0, 0, 304, 240, 0, 2**31, 1.0))
    write_boxes(path, boxes, old)
    assert np.load(path).dtype == (OLD_BOX_DTYPE if old else BOX_DTYPE)
    assert np.load(path).dtype.itemsize == 40
    np.testing.assert_array_equal(read(path, Problems(strict=True)), boxes)


def test_fields_are_read_by_name_whatever_their_order_and_width(tmp_path):
    path = tmp_path / "a_bbox.npy"
    names = ["class_id", "confidence", "h", "w", "y", "x", "track_id", "ts"]
    dtype = [(n, t) for n, t in zip(names, "i8 f8 f8 f4 f2 i4 u2 u4".split(), strict=True)]
    np.save(path, np.array([(1, 0.5, 40, 30, 20, 10, 7, 249_999)], dtype))
    assert read(path, Problems(strict=True)).tolist() == [GOOD]


@pytest.mark.parametrize("empty", [np.empty(0, BOX_DTYPE), np.empty(0, OLD_BOX_DTYPE), np.empty(0)])
def test_no_boxes_is_normal(tmp_path, empty):
    np.save(tmp_path / "a_bbox.npy", empty)
    assert len(read(tmp_path / "a_bbox.npy", Problems(strict=True))) == 0


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"x": np.nan}, "box not finite"),
        ({"h": np.inf}, "box not finite"),
        ({"w": 0}, "box without size"),
        ({"h": -3}, "box without size"),
        ({"x": 304}, "box outside the sensor"),
        ({"y": -40}, "box outside the sensor"),
        ({"t": -1}, "label before time zero"),
    ],
)
def test_a_bad_box_is_dropped_and_counted(tmp_path, change, kind):
    path = tmp_path / "a_bbox.npy"
    boxes = boxes_of(GOOD, GOOD, GOOD)
    boxes["track_id"], boxes["x"] = [1, 2, 3], [10, 110, 210]
    for name, value in change.items():
        boxes[name][1] = value
    np.save(path, boxes)
    problems = Problems()
    assert read(path, problems)["track_id"].tolist() == [1, 3]
    assert problems.counts() == {kind: 1}
    assert str(problems.items[0]).startswith(f"{path}: record 1: {kind}")


def test_records_are_numbered_as_in_the_file(tmp_path):
    boxes = boxes_of(*[GOOD] * 5)
    boxes["track_id"], boxes["x"] = range(5), [10, 60, 110, 160, 210]
    boxes["w"][[0, 3]] = 0, 500
    boxes["x"][2] = 400
    np.save(tmp_path / "a_bbox.npy", boxes)
    problems = Problems()
    assert read(tmp_path / "a_bbox.npy", problems)["track_id"].tolist() == [1, 3, 4]
    assert [(p.record, p.kind) for p in problems.items] == [
        ("record 0", "box without size"),
        ("record 2", "box outside the sensor"),
        ("record 3", "box partly outside the sensor"),
    ]


def test_a_box_across_the_border_is_clipped(tmp_path):
    np.save(tmp_path / "a_bbox.npy", boxes_of((5, -10, 230.5, 400, 20, 0, 0, 1)))
    problems = Problems()
    (box,) = read(tmp_path / "a_bbox.npy", problems)
    assert [float(box[k]) for k in "xywh"] == [0, 230.5, 304, 9.5]
    assert problems.counts() == {"box partly outside the sensor": 1}


def test_rounding_at_the_border_is_no_problem(tmp_path):
    x = np.float32(203.7)
    w = np.nextafter(np.float32(304) - x, np.float32(999))
    np.save(tmp_path / "a_bbox.npy", boxes_of((5, x, 0, w, 20, 0, 0, 1)))
    read(tmp_path / "a_bbox.npy", Problems(strict=True))


@pytest.mark.parametrize("tracks", [(0, 0, 0), (1, 2, 3), (-1, -1, -1), None])
def test_boxes_stay_whatever_their_tracks(tmp_path, tracks):
    rows = [(500_000, 10, 20, 50, 40, 0), (500_000, 120, 20, 60, 40, 0), (500_000, 220, 60, 20, 60, 1)]
    fields = [("t", "i8"), *((name, "f4") for name in "xywh"), ("class_id", "u1")]
    if tracks:
        rows = [(*row, track) for row, track in zip(rows, tracks, strict=True)]
        fields.append(("track_id", "i4"))
    np.save(tmp_path / "a_bbox.npy", np.array(rows, fields))
    boxes = read(tmp_path / "a_bbox.npy", Problems(strict=True))
    assert boxes["x"].tolist() == [10, 120, 220] and boxes["class_confidence"].tolist() == [1, 1, 1]
    assert boxes["track_id"].tolist() == (list(tracks) if tracks and tracks[0] >= 0 else [NO_TRACK] * 3)


@pytest.mark.parametrize(
    ("change", "stay"),
    [
        ({}, [1]),  # equal rows
        ({"track_id": 9}, [1]),
        ({"class_confidence": 0.1}, [1]),
        ({"x": 12.0, "h": 41.0}, [1]),  # IoU 0.85
        ({"x": 15.0}, [0, 1]),  # IoU 0.71: two of one class that overlap
        ({"class_id": 0}, [0, 1]),
        ({"t": 250_000}, [0, 1]),
    ],
)
def test_boxes_of_one_class_at_one_place_and_time_are_one(tmp_path, change, stay):
    boxes = boxes_of(GOOD, GOOD)
    for name, value in change.items():
        boxes[name][1] = value
    np.save(tmp_path / "a_bbox.npy", boxes)
    problems = Problems()
    np.testing.assert_array_equal(read(tmp_path / "a_bbox.npy", problems), boxes[stay])
    assert problems.counts() == ({} if len(stay) == 2 else {"repeated box": 1})
    if len(stay) == 1:
        said = "record 0: repeated box: t = 249999 us, class 1, x, y, w, h = 10, 20, 30, 40. The last box"
        assert said in str(problems.items[0])


def test_repeated_boxes_need_not_follow_each_other(tmp_path):
    """Between other times and other boxes of their own time, in any order, and more than twice."""
    boxes = boxes_of(*[GOOD] * 9)
    boxes["t"] = [5, 9, 5, 5, 9, 5, 5, 9, 5]
    boxes["x"] = [10, 10, 100, 10, 200, 150, 11, 10, 200]
    np.save(tmp_path / "a_bbox.npy", boxes)
    problems = Problems()
    kept = read(tmp_path / "a_bbox.npy", problems)
    assert kept[["t", "x"]].tolist() == [(5, 100), (5, 150), (5, 11), (5, 200), (9, 200), (9, 10)]
    dropped = [p.record for p in problems.items if p.kind == "repeated box"]
    assert dropped == ["record 0", "record 1", "record 3"]


def test_fields_of_other_names(tmp_path):
    fields = [("timestamp", "i8"), *((name, "f8") for name in "xywh"), ("class", "i8"), ("score", "f8")]
    np.save(tmp_path / "a_bbox.npy", np.array([(249_999, 10, 20, 30, 40, 1, 0.5)], fields))
    assert read(tmp_path / "a_bbox.npy", Problems(strict=True)).tolist() == [(*GOOD[:6], NO_TRACK, 0.5)]


@pytest.mark.parametrize(
    ("ids", "kept", "reported"),
    [
        (np.array([7, 2**32 + 7], "u8"), [7, NO_TRACK], 1),
        (np.array([7, -3], "i8"), [7, NO_TRACK], 0),
        (np.array([7, np.nan]), [7, NO_TRACK], 1),
        (np.array([7, 2.5]), [7, NO_TRACK], 1),
        (np.array(["a", "b"]), [NO_TRACK, NO_TRACK], 0),
    ],
)
def test_a_track_that_is_none_costs_no_box(tmp_path, ids, kept, reported):
    boxes = np.zeros(2, [(n, ids.dtype if n == "track_id" else BOX_DTYPE[n]) for n in BOX_DTYPE.names])
    boxes["w"], boxes["h"], boxes["x"], boxes["track_id"] = 5, 5, [0, 50], ids
    np.save(tmp_path / "a_bbox.npy", boxes)
    problems = Problems()
    assert read(tmp_path / "a_bbox.npy", problems)["track_id"].tolist() == kept
    assert problems.counts() == ({"track id out of range": reported} if reported else {})


def test_boxes_come_in_order_of_time(tmp_path):
    boxes = boxes_of(GOOD, GOOD, GOOD)
    boxes["t"] = [30, 10, 20]
    np.save(tmp_path / "a_bbox.npy", boxes)
    problems = Problems()
    assert read(tmp_path / "a_bbox.npy", problems)["t"].tolist() == [10, 20, 30]
    (problem,) = problems.items
    assert "record 1: label times out of order: t = 10 us after 30 us; 1 such records" in str(problem)


def a_still_box(times, tracks):
    boxes = boxes_of(*[GOOD] * len(times))
    boxes["t"], boxes["track_id"] = times, tracks
    return boxes


def test_a_phantom_box_is_named_and_kept(tmp_path):
    """40 s at 4 Hz under new track ids, among boxes that move."""
    times = np.arange(1, 161) * 250_000
    moving = a_still_box(times, 7)
    moving["x"] = 100 + np.arange(160)
    boxes = np.concatenate([a_still_box(times, 1000 + np.arange(160)), moving])[
        np.argsort(np.tile(times, 2), kind="stable")
    ]
    np.save(tmp_path / "a_bbox.npy", boxes)
    problems = Problems()
    assert len(read(tmp_path / "a_bbox.npy", problems)) == 320
    (problem,) = problems.items
    what = (
        "phantom box: class 1, x, y, w, h = 10, 20, 30, 40 at 160 label times from 250000 us to 40000000 us, under 160 "
    )
    assert what + "track ids. It is kept" in str(problem)


@pytest.mark.parametrize(
    ("count", "hz", "tracks", "named"),
    [
        (160, 4, lambda n: np.arange(n) // 100, True),  # two ids are enough
        (160, 4, lambda n: NO_TRACK, True),
        (160, 4, lambda n: 5, False),  # a parked car
        (9, 0.5, np.arange, False),  # few label times
        (160, 20, np.arange, False),  # 8 s
    ],
)
def test_a_box_that_may_be_there_is_no_phantom(tmp_path, count, hz, tracks, named):
    times = np.round(np.arange(1, count + 1) * 1e6 / hz).astype(int)
    np.save(tmp_path / "a_bbox.npy", a_still_box(times, tracks(count)))
    problems = Problems()
    read(tmp_path / "a_bbox.npy", problems)
    assert problems.counts() == ({"phantom box": 1} if named else {})


def test_a_label_before_time_zero_stays_where_the_clock_begins_there(tmp_path):
    boxes = boxes_of(GOOD, GOOD, GOOD)
    boxes["t"] = [-600, -500, 0]
    np.save(tmp_path / "a_bbox.npy", boxes)
    assert read(tmp_path / "a_bbox.npy")["t"].tolist() == [0]
    assert read_boxes(tmp_path / "a_bbox.npy", 304, 240, 2, Problems(), -500)["t"].tolist() == [-500, 0]


def test_an_unknown_class_is_fatal(tmp_path):
    path = tmp_path / "a_bbox.npy"
    np.save(path, boxes_of(GOOD))
    with pytest.raises(ValueError, match="record 0: class id out of range: 1. Class ids are 0..0"):
        read(path, classes=1)
    problems = Problems(collect=True)
    assert len(read(path, problems, classes=1)) == 0 and problems.items[0].fatal


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [("t", "u8", 2**63), ("class_id", "i8", 2**32), ("class_id", "i8", -1)],
)
def test_a_value_that_does_not_fit_is_not_taken_for_another(tmp_path, name, kind, value):
    boxes = np.zeros(2, [(n, kind if n == name else BOX_DTYPE[n]) for n in BOX_DTYPE.names])
    boxes["w"] = boxes["h"] = 5
    boxes[name][1] = value
    np.save(tmp_path / "a_bbox.npy", boxes)
    with pytest.raises(ValueError, match=f"record 1: value out of range: {name} = {value}"):
        read(tmp_path / "a_bbox.npy")


def _without(name):
    return np.zeros(2, [(n, BOX_DTYPE[n]) for n in BOX_DTYPE.names if n != name])


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (_without("w"), "field 'w': missing field"),
        (_without("t"), "field 't': missing field"),
        (np.zeros((3, 8)), "not a label array: float64 of shape"),
        (np.zeros((2, 2), BOX_DTYPE), "not a label array"),
        (
            np.zeros(1, [(n, "S4" if n == "x" else BOX_DTYPE[n]) for n in BOX_DTYPE.names]),
            "field 'x': wrong field type",
        ),
        (
            np.zeros(1, [(n, "f4") for n in BOX_DTYPE.names]),
            "field 't': wrong field type: float32. Save it as an integer of us",
        ),
        (np.array([{"t": 1}], object), "not a label array: Object arrays cannot be loaded"),
    ],
)
def test_a_file_that_is_no_label_array_is_fatal(tmp_path, array, says):
    path = tmp_path / "a_bbox.npy"
    np.save(path, array)
    with pytest.raises(ValueError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: {says}")
    problems = Problems(collect=True)
    assert len(read(path, problems)) == 0 and len(problems.items) == 1


@pytest.mark.parametrize("keep", [0, 5, 150])
def test_a_truncated_file_is_fatal(tmp_path, keep):
    path = tmp_path / "a_bbox.npy"
    np.save(path, boxes_of(GOOD, GOOD))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="a_bbox.npy: not a label array"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((\n\n"])
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "a_bbox.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a_bbox.npy"):
        read(path)
