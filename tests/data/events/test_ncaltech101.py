"""N-Caltech101: boxes from corners, stable splits, list files, windows, damaged annotations."""

import numpy as np
import pytest
import torch
from recording_files import write_bin

from data import Problems, create_dataset
from data.check import check_dataset
from data.dataset import MissingSplit
from data.events.ncaltech101 import read_annotation
from data.recordings import lazy, open_events

SPLITS = ("train", "val", "test")


def recording(root, name, number, box=(20, 30, 100, 90), end=300_000):
    """Pixel (40, 50) fires ON each ms from 2 ms on; the box's corners are written as the data set has them."""
    folder = root / "Caltech101" / name
    folder.mkdir(parents=True, exist_ok=True)
    t = np.arange(2000, end + 1, 1000)
    same = np.ones(len(t), int)
    write_bin(folder / f"image_{number:04d}.bin", t, 40 * same, 50 * same, same)
    if box:
        annotation(root, name, number, box)


def annotation(root, name, number, box):
    x0, y0, x1, y1 = box
    path = root / "Caltech101_annotations" / name / f"annotation_{number:04d}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    corners = [x0, y0, x1, y0, x1, y1, x0, y1, x0, y0]
    contour = [2, 3, x0, y0, x0 + 5, y0 + 5, x1, y1]
    np.array([2, 5, *corners, *contour], "<i2").tofile(path)
    return path


@pytest.fixture
def root(tmp_path):
    for name, count in (("wrench", 12), ("anchor", 10)):
        for number in range(1, count + 1):
            recording(tmp_path, name, number, end=300_000 + 1000 * number)
    recording(tmp_path, "BACKGROUND_Google", 1, box=None)
    return tmp_path


def build(root, split="train", **options):
    return create_dataset("ncaltech101", split, root=root, **{"num_steps": 4, **options})


def clips(root, split, **options):
    return [image["clip"] for image in build(root, split, **options).ground_truth()["images"]]


def test_a_sample_is_a_whole_recording(root):
    data = build(root, splits={"train": 1.0})
    assert data.class_names == ["anchor", "wrench"] and len(data) == data.expected_images == 22
    sample = data[0]
    assert sample.x.shape == (4, 2, 192, 256) and sample.original_size == (180, 240)
    # Events of 2 ... 301 ms: 300 of them, 75 in each quarter of what was recorded.
    assert sample.x[:, 1, 50, 40].tolist() == [75] * 4 and sample.x.sum() == 300
    assert sample.boxes.tolist() == [[20, 30, 100, 90]] and sample.labels.tolist() == [0]
    truth = data.ground_truth()
    assert truth["annotations"][0]["bbox"] == [20, 30, 80, 60] and truth["images"][0]["clip"] == "anchor/0001"
    assert data[21].x.sum() == 311 and data[21].labels.tolist() == [1]


def test_a_window_counts_from_the_first_event(root):
    assert build(root, splits={"train": 1.0}, window_ms=100)[0].x[:, 1, 50, 40].tolist() == [25] * 4


def test_recordings_are_opened_when_they_are_read(root, monkeypatch):
    opened = []
    monkeypatch.setattr(lazy, "open_events", lambda path, *a, **k: (opened.append(path), open_events(path, *a, **k))[1])
    data = build(root)
    data.ground_truth(), data.box_sizes()
    assert not opened
    data[0], data[0]
    assert len(opened) == 1 and len(data.recordings) == len(data)


def test_shares_part_every_class_and_stay_the_same(root):
    parts = [clips(root, split) for split in SPLITS]
    assert [sum(c.startswith("anchor") for c in part) for part in parts] == [8, 1, 1]
    assert [sum(c.startswith("wrench") for c in part) for part in parts] == [10, 1, 1]
    assert len({c for part in parts for c in part}) == 22
    assert parts[1] == ["anchor/0008", "wrench/0007"]  # on every machine, in every version
    assert clips(root, "val", split_seed=1) != parts[1]
    assert clips(root, "val", classes=["wrench"]) == parts[1][1:]
    two = {"train": 0.8, "val": 0.2}
    assert clips(root, "train", splits=two) == parts[0] and len(clips(root, "val", splits=two)) == 4


def test_list_files(root):
    (root / "mine.txt").write_text(
        "Caltech101/wrench/image_0003.bin\nanchor/image_0002.npy 1\n\nanchor/image_0002.bin\n"
    )
    splits = {"train": 0.5, "val": "mine.txt"}
    assert clips(root, "val", splits=splits) == ["wrench/0003", "anchor/0002"]
    assert clips(root, "val", splits=splits, classes=["anchor"]) == ["anchor/0002"]
    for line, says in (
        ("wrensh/image_0001.bin", "line 1: 'wrensh/image_0001.bin' names no"),
        ("image_1.bin", "line 1"),
    ):
        (root / "mine.txt").write_text(line)
        with pytest.raises(ValueError, match=says):
            build(root, "val", splits=splits)
    (root / "mine.txt").write_text("wrench/image_0099.bin")
    with pytest.raises(ValueError, match="mine.txt: line 1: .*no such recording"):
        build(root, "val", splits=splits)
    with pytest.raises(MissingSplit, match="other.txt: no such file"):
        build(root, "val", splits={"val": "other.txt"})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"splits": {"train": 0.8, "val": 0.3}}, "shares of at least 0 that sum up to 1"),
        ({"splits": {"train": -0.5}}, "shares"),
        ({"splits": {"train": True}}, "shares"),
        ({"splits": {"trian": 1.0}}, "split 'train', did you mean 'trian'"),
        ({"splits": {"train": 0.0}}, "shares"),
        ({"splits": {"train": 0.0, "val": 1.0}}, "no recording below"),
        ({"classes": ["wrensh"]}, "no class 'wrensh', did you mean 'wrench'"),
        ({"classes": ["BACKGROUND_Google"]}, "no class 'BACKGROUND_Google'"),
        ({"window_ms": "long"}, "window_ms = 'long'"),
        ({"classes": "anchor"}, "classes = anchor. Give a list"),
    ],
)
def test_bad_options_are_named(root, options, says):
    with pytest.raises(ValueError, match=says):
        build(root, **options)


def test_the_background_is_left_out_or_negative(root):
    assert not any(c.startswith("BACKGROUND") for c in clips(root, "train"))
    data = build(root, splits={"train": 1.0}, background=True)
    assert data.class_names == ["anchor", "wrench"] and len(data) == 23
    assert data[22].boxes.shape == (0, 4) and data[22].x.sum() > 0


def test_events_beyond_the_screen_are_dropped(root, caplog):
    path = root / "Caltech101" / "anchor" / "image_0001.bin"
    t = np.arange(1000, 300_001, 1000)
    x = np.full(len(t), 40)
    x[7] = 240
    write_bin(path, t, x, np.full(len(t), 50), np.ones(len(t), int))
    data = build(root, splits={"train": 1.0}, classes=["anchor"])
    with caplog.at_level("WARNING"):
        assert data[0].x.sum() == 299
    assert "image_0001.bin: event 7: events outside the sensor" in caplog.text


def test_a_recording_without_events(root):
    (root / "Caltech101" / "anchor" / "image_0001.bin").write_bytes(b"")
    assert build(root, splits={"train": 1.0})[0].x.sum() == 0


def test_missing_files(root):
    (root / "Caltech101" / "wrench" / "image_0012.bin").unlink()
    whole = {"splits": {"train": 1.0}}
    with pytest.raises(ValueError, match="image_0012.bin: no such file.*allow_missing"):
        build(root, **whole)
    data = build(root, allow_missing=True, **whole)
    assert (len(data), data.expected_images) == (21, 22)
    (root / "Caltech101_annotations" / "wrench" / "annotation_0001.bin").unlink()
    with pytest.raises(ValueError, match="annotation_0001.bin: recording without labels"):
        build(root, allow_missing=True, **whole)
    with pytest.raises(ValueError, match="Caltech101: no such folder"):
        build(root / "nowhere")


def test_corners_are_cut_to_the_screen(tmp_path):
    problems = Problems()
    (box,) = read_annotation(annotation(tmp_path, "a", 1, (-4, 20, 250, 190)), 3, problems)
    assert [int(box[k]) for k in ("x", "y", "w", "h", "class_id")] == [0, 20, 240, 160, 3]
    assert problems.counts() == {"box partly outside the sensor": 1}
    for number, box, kind in (
        (2, (10, 200, 50, 220), "box outside the sensor"),
        (3, (9, 9, 9, 30), "box without size"),
    ):
        problems = Problems()
        assert len(read_annotation(annotation(tmp_path, "a", number, box), 0, problems)) == 0
        assert problems.counts() == {kind: 1}


@pytest.mark.parametrize(
    "content",
    [b"", b"\x02\x00", b"\x02\x00\x05\x00\x01", [2, 5, 1, 2, 3], [5, 2] + [1] * 10, [2, -1, 3], [2, 32767] + [0] * 9],
)
def test_a_damaged_annotation_is_named(root, content):
    path = root / "Caltech101_annotations" / "anchor" / "annotation_0001.bin"
    path.write_bytes(content if isinstance(content, bytes) else np.array(content, "<i2").tobytes())
    with pytest.raises(ValueError, match="annotation_0001.bin: not an annotation"):
        build(root, splits={"train": 1.0})
    problems = Problems(collect=True)
    assert len(build(root, splits={"train": 1.0}, problems=problems)) == 21 and problems.items[0].fatal


def test_an_annotation_may_end_after_the_box(tmp_path):
    path = annotation(tmp_path, "a", 1, (10, 20, 30, 40))
    path.write_bytes(path.read_bytes()[: 2 * 13])
    assert read_annotation(path, 0, Problems(strict=True))["w"].tolist() == [20]


def test_the_check_reads_every_recording(root):
    path = root / "Caltech101" / "wrench" / "image_0002.bin"
    path.write_bytes(path.read_bytes()[:-2])
    report = check_dataset("ncaltech101", SPLITS, root=root)
    assert not report.fatal and "truncated" in str(report)
    tallies = [tally for split in report.splits.values() for tally in split.recordings]
    assert len(tallies) == sum(split.images for split in report.splits.values()) and all(t.on > 0 for t in tallies)
    t = np.arange(1000, 100_001, 1000)
    write_bin(path, t, np.full(len(t), 250), np.full(len(t), 50), np.ones(len(t), int))
    assert [p.kind for p in check_dataset("ncaltech101", SPLITS, root=root).fatal] == ["unreadable recording"]


def test_augmentation_and_half_size(root):
    data = build(root, splits={"train": 1.0}, size=(96, 128), augment={"hflip": 1.0})
    sample = data[0]
    assert sample.x.shape == (4, 2, 96, 128) and sample.x[:, 1, 25, 119 - 20].sum() == sample.x.sum() == 300
    assert torch.equal(sample.boxes, torch.tensor([[70.0, 15, 110, 45]]))
