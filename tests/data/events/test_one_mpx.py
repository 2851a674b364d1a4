"""The 1Mpx dataset: classes, half size, subsampled labels, and its protocol."""

import numpy as np
import pytest

from data import create_dataset
from data.events.one_mpx import LABEL_NAMES
from data.recordings import write_boxes, write_dat
from data.recordings.boxes import BOX_DTYPE
from scoring.protocols import PROTOCOLS


@pytest.fixture
def root(tmp_path):
    """A clip at 60 Hz whose pixel (900, 500) fires ON each millisecond, with a box of each class at each label time."""
    folder = tmp_path / "train"
    folder.mkdir()
    t = np.arange(1000, 1_000_001, 1000)
    same = np.ones(len(t), int)
    write_dat(folder / "moorea_2019-02-19_002_td_0_1_td.dat", t, 900 * same, 500 * same, same, 1280, 720)
    rows = [
        (when, 100 * k, 80, 64, 40, k, k, 1.0)
        for when in np.arange(16_667, 1_000_000, 16_667)
        for k in range(len(LABEL_NAMES))
    ]
    write_boxes(folder / "moorea_2019-02-19_002_td_0_1_bbox.npy", np.array(rows, BOX_DTYPE))
    return tmp_path


def build(root, **options):
    return create_dataset("one_mpx", "train", root=root, **options)


def test_three_classes_at_half_size(root):
    data = build(root)
    assert data.class_names == ["pedestrian", "two wheeler", "car"] and len(data) == data.expected_images == 59
    assert data.left_out == {f"of class {name!r}": 59 for name in LABEL_NAMES[3:]}
    sample = data[20]
    assert sample.x.shape == (5, 2, 384, 640) and sample.x[:, 1, 250, 450].sum() == sample.x.sum() == 250
    assert sample.boxes.tolist() == [[50 * k, 40, 50 * k + 32, 60] for k in range(3)]
    assert sample.labels.tolist() == [0, 1, 2] and sample.original_size == (720, 1280)


def test_other_classes_keep_their_names(root):
    data = build(root, classes=["traffic sign", "car"])
    assert data.class_names == ["traffic sign", "car"] and data[0].labels.tolist() == [1, 0]  # in the file's order
    assert build(root, classes=list(LABEL_NAMES)).left_out == {}
    with pytest.raises(ValueError, match="no class 'cars', did you mean 'car'.*traffic light"):
        build(root, classes=["cars"])


def test_labels_are_thinned_as_rvt_does(root):
    data = build(root, labels="rvt_1mpx")
    times = [image["t_us"] for image in data.ground_truth()["images"]]
    assert times[0] == 6 * 16_667 and np.diff(times).tolist() == [6 * 16_667] * 8
    assert data.expected_images == 9 and data.left_out["off the grid of 100.002 ms"] == 3 * (59 - 5 - 9)


def test_the_protocol_takes_the_ground_truth_in_pixels_of_the_recording(root):
    truth = build(root).ground_truth()
    found = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 1.0} for a in truth["annotations"]]
    scores = PROTOCOLS["prophesee_1mpx"].score(truth, found)
    assert scores["AP"] == 1 and scores["boxes"] == 3 * 30  # those after 0.5 s
