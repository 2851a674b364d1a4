"""Gen1 folders: splits, recordings of all formats, and missing, damaged or misplaced files."""

import pickle

import numpy as np
import pytest
import torch
from gen1_folder import build, other_recording, two_drives, write_clip
from recording_files import WRITERS

from data import Problems, create_dataset
from data.check import check_dataset
from data.recordings import lazy, open_events
from scoring.protocols import get_protocol


@pytest.fixture
def root(tmp_path):
    return two_drives(tmp_path)


def test_splits_join_folders(root):
    write_clip(root / "val", "drive_1", [500_000])
    write_clip(root / "test", "drive_2", [500_000, 750_000])

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
    assert clips("val", splits="rvt") == clips("val", splits="ems_yolo") == clips("val", splits="folders") == val
    assert [clips(s, splits="spikeyolo") for s in ("train", "val", "test")] == [train, test, test]
    assert [clips(s, splits="eas_snn") for s in ("train", "val", "test")] == [train + val, test, test]
    assert (
        clips("train", splits={"train": ["val", "test"]}) == val + test and clips("mine", splits={"mine": "val"}) == val
    )


def test_joined_folders_may_hold_clips_of_one_name(root):
    write_clip(root / "val", "drive_9", [749_999])
    data = create_dataset("gen1", "train+val", root=root)
    truth = data.ground_truth()
    assert [i["clip"] for i in truth["images"]] == ["drive_9", "drive_9", "drive_10", "drive_10", "val/drive_9"]
    assert get_protocol("toolbox").score(truth, [])["AP"] == 0


@pytest.mark.parametrize(
    ("ending", "kind"), [("_td.dat.h5", "packed.h5"), ("_td.npz", "a.npz"), ("_td.raw", "evt3.raw")]
)
def test_recordings_of_other_formats_are_opened_when_they_are_read(root, ending, kind, monkeypatch):
    other_recording(root / "train", "drive_11", lambda f, *e: WRITERS[kind](f / f"drive_11{ending}", *e))
    other_recording(root / "train", "drive_12", lambda f, *e: WRITERS[kind](f / f"drive_12{ending}", *e))
    opened = []

    def open_and_note(path, sensor, problems=None, whole=True, *args, **kwargs):
        opened.extend([path.name] * whole)
        return open_events(path, sensor, problems, whole, *args, **kwargs)

    monkeypatch.setattr(lazy, "open_events", open_and_note)
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
    write_clip(root / "train", "drive_12", [500_000], events=False)
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
    write_clip(root / "test", "drive_1", [500_000])
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


def test_a_root_too_high_or_too_low_is_answered_with_the_right_one(tmp_path):
    root = tmp_path / "gen1"
    write_clip(root / "train", "a", [500_000])
    for wrong in (root.parent, root / "train"):
        with pytest.raises(ValueError, match=f"no such folder, did you mean root = {root}[?]"):
            build(wrong)


def test_a_bad_recording_stops_the_run_but_not_the_check(root):
    path = root / "train" / "drive_9_td.dat"
    raw = path.read_bytes()
    cut = raw.index(b"\x0c\x08") + 1
    path.write_bytes(raw[:cut] + b"\x10" + raw[cut + 1 :])
    with pytest.raises(ValueError, match="drive_9_td.dat.*wrong record size: 16"):
        build(root)
    assert len(build(root, problems=Problems(collect=True))) == 2


def test_the_check_says_why_no_recording_can_be_opened(root):
    for path in (root / "train").glob("*_td.dat"):
        path.rename(path.with_name(path.name.replace(".dat", ".npz")))
        path.with_name(path.name.replace(".dat", ".npz")).write_bytes(b"PK\x03\x04 and no more")
    (problem,) = check_dataset("gen1", ["train"], root=root).fatal
    assert "drive_9_td.npz: not a readable .npz" in str(problem)


def test_a_cut_recording_is_reported_and_strict_refuses_it(root):
    path = root / "train" / "drive_9_td.dat"
    path.write_bytes(path.read_bytes()[:-3])
    problems = Problems()
    assert len(build(root, problems=problems)) == 4 and problems.counts() == {"truncated last record": 1}
    with pytest.raises(ValueError, match="drive_9_td.dat: record 999: truncated last record.*strict"):
        build(root, problems=Problems(strict=True))
    assert check_dataset("gen1", ["train"], root=root).problems.counts()["truncated last record"] == 1
