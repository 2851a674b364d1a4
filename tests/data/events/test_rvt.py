"""RVT's preprocessed folders: frames and boxes in both samplings, and damaged files."""

import pickle

import h5py
import numpy as np
import pytest
import torch
from rvt_folder import FORM, write_sequence

from data import Problems, create_dataset
from data.check import check_dataset
from scoring.protocols import PROTOCOLS

BOX = (4, 6, 10, 8, 1)  # x, y, w, h, class


@pytest.fixture
def root(tmp_path):
    write_sequence(tmp_path / "train" / "a", {2: [BOX], 7: [BOX, (0, 0, 31, 23, 0)], 17: [BOX]})
    write_sequence(tmp_path / "train" / "b", {9: [BOX]}, count=10)
    return tmp_path


def build(root, **options):
    return create_dataset("rvt", "train", root=root, **{"num_steps": 5, **options})


def steps(sample):
    """What each step's frame is full of: the number of the frame, counted from 1."""
    return sample.x[:, 3, 0, 0].tolist()


def test_a_sample_holds_the_frames_up_to_its_label(root):
    data = build(root)
    assert (len(data), data.expected_images, data.channels, data.scale) == (4, 4, 20, 1.0)
    sample = data[1]
    assert sample.x.shape == (5, 20, 32, 32) and sample.x.dtype == torch.uint8
    assert steps(sample) == [4, 5, 6, 7, 8] and sample.x[:, 3, :24].min() > 0 and sample.x[:, 3, 24:].max() == 0
    assert sample.boxes.tolist() == [[4, 6, 14, 14], [0, 0, 31, 23]] and sample.labels.tolist() == [1, 0]
    assert steps(data[0]) == [0, 0, 1, 2, 3]  # frames before the first one are empty
    assert steps(data[3]) == [6, 7, 8, 9, 10] and steps(build(root, newest_first=True)[3]) == [10, 9, 8, 7, 6]
    assert steps(build(root, num_steps=1)[2]) == [18]
    assert all(data[k].start for k in range(4)) and data.sequences is None


def test_ground_truth_fits_the_protocol(root):
    truth = build(root).ground_truth()
    assert [(i["clip"], i["t_us"]) for i in truth["images"]] == [
        ("a", 149_999),
        ("a", 399_999),
        ("a", 899_999),
        ("b", 499_999),
    ]
    assert truth["images"][0]["file_name"] == "train/a" and truth["annotations"][0]["bbox"] == [4, 6, 10, 8]
    found = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 1.0} for a in truth["annotations"]]
    assert PROTOCOLS["raw"].score(truth, found)["AP"] == 1 and PROTOCOLS["prophesee"].score(truth, found)["boxes"] == 0


def test_sequential_windows_tile_the_frames(root):
    data = build(root, sampling="sequential")
    assert [steps(data[k]) for k in range(4)] == [
        [0, 0, 1, 2, 3],
        [4, 5, 6, 7, 8],
        [9, 10, 11, 12, 13],
        [14, 15, 16, 17, 18],
    ]
    assert [data[k].image_id for k in range(6)] == [1, 2, 0, 3, 0, 4]
    assert [data[k].start for k in range(6)] == [True, False, False, False, True, False]
    assert data.sequences == [range(0, 4), range(4, 6)] and len(data[2].boxes) == 0
    assert len(build(root, sampling="sequential", num_steps=1)) == 28
    assert build(root, sampling="sequential").ground_truth() == build(root).ground_truth()


def test_sequential_windows_need_steps_that_divide_the_frames(root):
    with pytest.raises(
        ValueError, match="train/a: 5 frames lie between label times 1 and 2.*num_steps = 4.*to 5 or a divisor"
    ):
        build(root, sampling="sequential", num_steps=4)


def test_frames_of_half_the_size_keep_boxes_in_pixels_of_the_recording(tmp_path):
    write_sequence(tmp_path / "train" / "a", {4: [(4, 6, 10, 8, 2)]}, half=True)
    data = build(tmp_path, classes=["pedestrian", "two wheeler", "car"])
    sample = data[0]
    assert sample.original_size == (48, 64) and sample.x.shape[-2:] == (32, 32) and sample.labels.tolist() == [2]
    assert sample.boxes.tolist() == [[2, 3, 7, 7]] and sample.x[:, 3, :24].min() > 0
    assert data.ground_truth()["annotations"][0]["bbox"] == [4, 6, 10, 8]
    with pytest.raises(ValueError, match=r"size = \[48, 64\]: the frames are 24 x 32"):
        build(tmp_path, size=(48, 64), classes=["a", "b", "c"])


def test_mirrored_frames(root):
    sample = build(root, augment={"hflip": 1.0})[1]
    assert sample.boxes[0].tolist() == [18, 6, 28, 14]
    with pytest.raises(ValueError, match="augment: drop_time changes events"):
        build(root, augment={"drop_time": 0.1})
    view = build(root).view(build(root)[1].x)
    assert view.shape == (5, 2, 32, 32) and view[:, 0, 0, 0].tolist() == [4, 5, 6, 7, 8]


def test_pickles_without_its_handles(root):
    data = build(root)
    expected = [data[k].x for k in range(4)]
    copy = pickle.loads(pickle.dumps(data))
    assert all(torch.equal(copy[k].x, expected[k]) for k in (3, 0, 2, 1))


def test_several_folders_of_frames_need_a_name(root):
    other = write_sequence(root / "more" / "a", {4: [BOX]}, form="mixeddensity_stack_dt=50_nbins=10_cutoff=32")
    other.rename(root / "train" / "a" / "event_representations_v2" / other.name)
    with pytest.raises(ValueError, match="holds several .mixeddensity.*Name one"):
        build(root)
    assert len(build(root, representation=FORM)) == 4
    with pytest.raises(ValueError, match="representation = 'stacked' is none of RVT's"):
        build(root, representation="stacked")
    (root / "val").mkdir()
    with pytest.raises(ValueError, match="holds none"):
        create_dataset("rvt", "val", root=root)


def test_missing_frames(root):
    (root / "train" / "b" / "event_representations_v2" / FORM / "event_representations.h5").unlink()
    with pytest.raises(ValueError, match="event_representations.h5: no such file.*allow_missing"):
        build(root)
    data = build(root, allow_missing=True)
    assert (len(data), data.expected_images) == (3, 4)


def _h5(change):
    def damage(folder):
        with h5py.File(folder / "event_representations.h5", "r+") as file:
            change(file)

    return damage


def _npy(name, values):
    return lambda folder: np.save(folder / name, np.array(values))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_npy("timestamps_us.npy", [1, 2, 3]), "'data' is uint8 of shape .10, 20, 24, 32., with 3"),
        (_npy("timestamps_us.npy", [5] * 10), "timestamps_us.npy: entry 1: times do not rise"),
        (_npy("objframe_idx_2_repr_idx.npy", [8]), "objframe_idx_2_repr_idx.npy: does not lead"),
        (_npy("objframe_idx_2_repr_idx.npy", [10]), "objframe_idx_2_repr_idx.npy: does not lead"),
        (_npy("objframe_idx_2_repr_idx.npy", [9, 9]), "objframe_idx_2_repr_idx.npy: does not lead"),
        (_npy("objframe_idx_2_repr_idx.npy", [9.0]), "objframe_idx_2_repr_idx.npy: not a vector of integers"),
        (lambda f: (f / "timestamps_us.npy").write_bytes(b""), "timestamps_us.npy: not a readable array"),
        (lambda f: (f / "timestamps_us.npy").unlink(), "timestamps_us.npy: no such file"),
        (lambda f: (f.parents[1] / "labels_v2" / "labels.npz").write_bytes(b"PK\3\4 x"), "labels.npz: not a readable"),
        (lambda f: (f / "event_representations.h5").write_bytes(b"x"), "event_representations.h5: not a readable HDF5"),
        (_h5(lambda file: file.move("data", "dota")), "has no dataset 'data' of numbers. It holds .'dota'"),
    ],
)
def test_a_damaged_recording_is_named(root, damage, says):
    damage(root / "train" / "b" / "event_representations_v2" / FORM)
    with pytest.raises(ValueError, match=says):
        build(root)
    problems = Problems(collect=True)
    assert len(build(root, problems=problems)) == 3 and problems.items[0].fatal


def test_a_packing_that_h5py_lacks_names_the_extra(root, monkeypatch):
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: False)
    with pytest.raises(ValueError, match="'data' is packed by the HDF5 filter 1, .*extra `hdf5`"):
        build(root)


def test_bad_boxes_are_those_of_any_label_file(root):
    path = root / "train" / "b" / "labels_v2" / "labels.npz"
    with np.load(path) as content:
        arrays = dict(content)
    arrays["labels"]["w"] = 0
    np.savez(path, **arrays)
    data = build(root)
    assert len(data) == data.expected_images == 3 and data.problems.counts() == {"box without size": 1}
    with pytest.raises(ValueError, match="class id out of range"):
        build(root, classes=["car"])


def test_the_check_reads_every_frame(root):
    report = check_dataset("rvt", ["train"], root=root)
    assert not report.fatal and "events" not in str(report)  # of frames it is not known how many they were made of
    path = root / "train" / "b" / "event_representations_v2" / FORM / "event_representations.h5"
    with h5py.File(path) as file:
        where = file["data"].id.get_chunk_info(6)
    raw = bytearray(path.read_bytes())
    raw[where.byte_offset : where.byte_offset + 8] = b"\xff" * 8
    path.write_bytes(raw)
    (problem,) = check_dataset("rvt", ["train"], root=root).fatal
    assert problem.kind == "unreadable recording" and problem.file == path
    with pytest.raises(ValueError, match="event_representations.h5: not a readable HDF5 file: rows 5 to 9"):
        build(root)[3]


def test_the_frames_of_a_history(root):
    data = build(root).with_history(2)
    assert [steps(data[k]) for k in range(3)] == [[0, 0, 1, 2, 3], [0, 0, 1, 2, 3], [4, 5, 6, 7, 8]]
    assert [steps(data[k]) for k in (3, 4)] == [[9, 10, 11, 12, 13], [14, 15, 16, 17, 18]]
    assert [data[k].labelled for k in range(5)] == [True, False, True, False, True] and data[1].start
    assert data.histories[:, 0].tolist() == [1, 2, 2, 2]
    sequential = build(root).with_history(None)
    assert sequential.histories[:, 0].tolist() == [1, 2, 4, 2]
