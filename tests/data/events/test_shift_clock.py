"""Recordings shifted to begin at 0, for labels on such a clock."""

import pickle

import numpy as np
import pytest
import torch
from gen1_folder import build
from recording_files import WRITERS, assert_same, some_events

from data import Problems
from data.check import check_dataset
from data.recordings import ShiftedReader, Span, open_events, write_boxes
from data.recordings.boxes import BOX_DTYPE

FORMATS = {
    "a_td.dat": "_td.dat",
    "a.npz": "_td.npz",
    "a_td.dat.h5": "_td.dat.h5",
    "evt2.raw": "_td.raw",
    "evt3.raw": "_td.raw",
}


def write_recording(root, kind, offset):
    (root / "train").mkdir(parents=True)
    t, *others = some_events(3000, 3_000_000)
    WRITERS[kind](root / "train" / f"a{FORMATS[kind]}", t - t[0] + offset, *others)
    rows = [(when, 10, 20, 50, 40, k % 2, k, 1) for k, when in enumerate((200_000, 1_000_000, 2_000_000))]
    write_boxes(root / "train" / "a_bbox.npy", np.array(rows, BOX_DTYPE))
    return root


@pytest.mark.parametrize("kind", list(FORMATS))
@pytest.mark.parametrize("sampling", ["random", "sequential"])
def test_samples_and_ground_truth_are_those_of_a_clock_from_zero(tmp_path, kind, sampling):
    zero, later = (write_recording(tmp_path / str(offset), kind, offset) for offset in (0, 6_437_104))
    options = {"sampling": sampling, "window_ms": 100}
    assert build(later, **options).problems.counts() == {"labelled windows without events": 1}
    problems = Problems(strict=True)
    data, shifted = build(zero, **options), build(later, shift_clock=True, problems=problems, **options)
    assert len(data) == len(shifted) and data.ground_truth() == shifted.ground_truth()
    shifted = pickle.loads(pickle.dumps(shifted))
    assert all(torch.equal(data[k].x, shifted[k].x) for k in range(len(data)))
    assert check_dataset("gen1", ["train"], root=later, shift_clock=True).problems.items == []


def test_a_shifted_reader(tmp_path):
    t, *others = some_events()
    WRITERS["a_td.dat"](tmp_path / "a.dat", t + 777_000, *others)
    reader = ShiftedReader(open_events(tmp_path / "a.dat"))
    assert (reader.t_first, reader.t_last, len(reader)) == (0, t[-1] - t[0], 3000) and reader.sensor_size == (240, 304)
    assert reader.span() == reader.span(exact=True) == Span(0, t[-1] - t[0])
    assert (reader.dropped, reader.clamped, reader.path) == (0, 0, tmp_path / "a.dat")
    inside = (t - t[0] > 5000) & (t - t[0] <= 90_000)
    assert_same(reader.read(5000, 90_000), [(t - t[0])[inside], *(column[inside] for column in others)])
    reader.close()
    WRITERS["a_td.dat"](tmp_path / "none.dat", *some_events(0))
    assert ShiftedReader(open_events(tmp_path / "none.dat")).span() is None


def test_a_wrong_option_is_named(tmp_path):
    with pytest.raises(ValueError, match="shift_clock = 'maybe': give true or false"):
        build(write_recording(tmp_path, "a_td.dat", 0), shift_clock="maybe")
