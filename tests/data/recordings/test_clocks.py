"""A shifted clock changes nothing: windows and rules count from the start of the recording."""

import h5py
import numpy as np
import pytest
import torch
from gen1_folder import build, write_clip
from recording_files import WRITERS, write_hdf5
from rvt_folder import write_sequence

from data import Problems, create_dataset
from data.events.label_rules import LabelRules
from data.events.windows import sequential_windows
from data.recordings import LazyReader, Span, open_events, write_boxes
from data.recordings.boxes import BOX_DTYPE
from data.recordings.evt2 import Evt2Reader
from scoring.protocols import PROTOCOLS, Prophesee

LABELS = [0, 100_000, 500_000, 500_010, 1_000_000, 1_500_000]
# Per format its ending as a recording of Gen1, and a clock that it can hold.
CLOCKS = {
    "a_td.dat": ("_td.dat", 3_000_000_000),
    "a.npz": ("_td.npz", 1_764_115_200_000_000),
    "packed.npz": ("_td.npz", 1_764_115_200_000_000),
    "a_td.dat.h5": ("_td.dat.h5", 58_000_000_000),
    "packed.h5": ("_td.h5", 58_000_000_000),
    "evt2.raw": ("_td.raw", 7_000_000_000),
    "evt21.raw": ("_td.raw", 7_000_000_000),
    "evt3.raw": ("_td.raw", 11_718_656),
}


def some_events(first=0, last=2_000_000, n=5000):
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(first, last, n))
    t[0] = first
    return t, rng.integers(0, 304, n), rng.integers(0, 240, n), rng.integers(0, 2, n)


def write_recording(root, kind, offset, labels=LABELS, first=0):
    """A clip whose clock begins at `offset`, its first event `first` after that."""
    (root / "train").mkdir(parents=True)
    t, *others = some_events(first)
    WRITERS[kind](root / "train" / f"a{CLOCKS[kind][0]}", t + offset, *others)
    rows = [(offset + when, 100, 60, 80, 60, k % 2, k, 1.0) for k, when in enumerate(labels)]
    write_boxes(root / "train" / "a_bbox.npy", np.array(rows, BOX_DTYPE))
    return root


@pytest.fixture
def roots(tmp_path, request):
    kind = request.param
    return [write_recording(tmp_path / str(offset), kind, offset) for offset in (0, CLOCKS[kind][1])], CLOCKS[kind][1]


@pytest.mark.parametrize("roots", list(CLOCKS), indirect=True)
@pytest.mark.parametrize("sampling", ["random", "sequential"])
def test_samples_are_the_same_on_any_clock(roots, sampling):
    (root, other), offset = roots
    options = {"sampling": sampling, "window_ms": 50, "problems": Problems(strict=True)}
    data, moved = build(root, **options), build(other, **options)
    assert len(moved) == len(data) == (len(LABELS) if sampling == "random" else 32)
    for k in range(len(data)):
        a, b = data[k], moved[k]
        assert torch.equal(a.x, b.x) and torch.equal(a.boxes, b.boxes)
        assert (a.image_id, a.labelled, a.start) == (b.image_id, b.labelled, b.start)
    truth, again = data.ground_truth(), moved.ground_truth()
    assert truth["annotations"] == again["annotations"]
    for one, image in zip(truth["images"], again["images"], strict=True):
        assert image == one | {"t_us": one["t_us"] + offset, "start_us": offset} and one["start_us"] == 0


@pytest.mark.parametrize("roots", list(CLOCKS), indirect=True)
def test_protocols_and_rules_are_the_same_on_any_clock(roots):
    (root, other), offset = roots
    for name, boxes in (("prophesee", 3), ("toolbox", 4), ("raw", 6)):
        scores = []
        for folder in (root, other):
            truth = build(folder).ground_truth()
            found = [{k: a[k] for k in ("image_id", "category_id", "bbox")} for a in truth["annotations"]]
            scores.append(PROTOCOLS[name].score(truth, [d | {"score": d["image_id"] / 10} for d in found]))
        assert scores[0] == scores[1] and scores[0]["boxes"] == boxes
    for rules in ("rvt", {"from_ms": 500}):
        times = [[i["t_us"] for i in build(f, labels=rules).ground_truth()["images"]] for f in (root, other)]
        assert [t + offset for t in times[0]] == times[1] and 0 not in times[0]


def test_a_clock_of_hours_in_sequence(tmp_path):
    """About 40 windows of 50 ms from the first event to the label 2 s later; every event up to that label is in one."""
    offset = 58_000_000_000
    t, *others = some_events(1, 3_000_000, 30_000)
    (tmp_path / "train").mkdir()
    write_hdf5(tmp_path / "train" / "a_td.h5", t, *others, t_offset=offset)
    rows = [(offset + when, 10, 20, 50, 40, k, k, 1) for k, when in enumerate((1_000_000, 2_000_000))]
    write_boxes(tmp_path / "train" / "a_bbox.npy", np.array(rows, BOX_DTYPE))
    data = build(tmp_path, sampling="sequential", window_ms=50)
    assert len(data) == 40
    assert sum(int(data[i].x.sum()) for i in range(40)) == np.count_nonzero(t <= 2_000_000)


def test_events_at_time_zero_are_seen_in_sequence(tmp_path):
    (tmp_path / "train").mkdir()
    t, *others = some_events(1, 1_000_000)
    t[:200] = 0
    WRITERS["a_td.dat"](tmp_path / "train" / "a_td.dat", t, *others)
    write_boxes(tmp_path / "train" / "a_bbox.npy", np.array([(1_000_000, 9, 9, 30, 30, 0, 0, 1)], BOX_DTYPE))
    data = build(tmp_path, sampling="sequential", window_ms=50)
    assert sum(int(data[i].x.sum()) for i in range(len(data))) == 5000


@pytest.mark.parametrize("when", [0, 3])
def test_a_label_at_the_start_has_the_window_before_it(tmp_path, when):
    root = write_recording(tmp_path, "a_td.dat", 0, [when, 200_000])
    for sampling, count in (("random", 2), ("sequential", 1 + 4)):
        data = build(root, sampling=sampling, window_ms=50, problems=Problems(strict=True))
        assert len(data) == count and data[0].labelled and len(data[0].boxes) == 1
        assert data[0].x.sum() == np.count_nonzero(some_events()[0] <= when)


def test_a_clock_may_begin_below_zero(tmp_path):
    """As that of a recording around a trigger."""
    (tmp_path / "train").mkdir()
    t, *others = some_events(-500_000, 1_000_000)
    WRITERS["a.npz"](tmp_path / "train" / "a_td.npz", t, *others)
    rows = [(when, 100, 60, 80, 60, 0, 0, 1.0) for when in (-500_001, -250_000, 0, 500_000)]
    write_boxes(tmp_path / "train" / "a_bbox.npy", np.array(rows, BOX_DTYPE))
    data = build(tmp_path, sampling="sequential", window_ms=50)
    assert data.problems.counts() == {"label before time zero": 1} and len(data) == 20
    assert sum(int(data[i].x.sum()) for i in range(20)) == np.count_nonzero(t <= 500_000)
    truth = data.ground_truth()
    assert [i["t_us"] for i in truth["images"]] == [-250_000, 0, 500_000]
    assert PROTOCOLS["prophesee"].score(truth, [])["boxes"] == 1  # that 1 s after the start; 0 is 0.5 s after it


@pytest.mark.parametrize(
    ("first", "start"),
    [(0, 0), (1, 0), (900_000, 0), (1_000_000, 0), (1_000_001, 1_000_001), (-1, -1), (58_000_000_000, 58_000_000_000)],
)
def test_where_a_recording_starts(first, start):
    assert Span(first, None).start_us == Span(first, first + 10**7).start_us == start
    windows = sequential_windows(0, np.array([first + 5_000_000]), 50_000, 1, Span(first, first + 10**7))
    assert windows["t0"][0] == (start - 1 if first == start else 0)
    assert windows["t1"][0] - start == pytest.approx(50_000, abs=250)


def test_ordinary_recordings_are_cut_as_without_their_span():
    """From 0, although the first event comes later: samples of clocks that begin with the recording never change."""
    times = np.array([249_999, 499_999, 2_000_003])
    without = sequential_windows(3, times, 50_000, 7)
    for span in (Span(1, 2_500_000), Span(731_000, None), Span(1_000_000, 1_999_000)):
        np.testing.assert_array_equal(sequential_windows(3, times, 50_000, 7, span, 5), without)


def test_labels_of_another_clock_make_no_million_windows():
    """Labels on the clock of a long session, events from 0 on, and the reverse: one window, or those between labels."""
    times = np.array([58_000_000_000, 58_000_250_000])
    windows = sequential_windows(0, times, 50_000, 1, Span(4, 60_000_000))
    assert windows["t1"].tolist() == times.tolist() and (windows["t1"] - windows["t0"] == 50_000).all()
    windows = sequential_windows(0, np.array([1_000_000, 1_250_000]), 50_000, 1, Span(58_000_000_000, None))
    assert len(windows) == 6 and windows["t0"][0] == 950_000


@pytest.mark.parametrize("kind", list(WRITERS))
def test_a_span_is_found_without_a_pass(tmp_path, kind):
    t, x, y, p = some_events(1234, 300_000, 40_000)
    x, y = x % 250, y % 200
    WRITERS[kind](tmp_path / kind, t, x, y, p)
    reader = LazyReader(tmp_path / kind, (240, 304)) if kind != "a_td.dat" else open_events(tmp_path / kind)
    span = reader.span()
    with_state = kind.endswith((".raw", ".bin"))
    assert span == Span(1234, None if with_state else t[-1])
    assert reader.span(exact=True) == open_events(tmp_path / kind).span() == Span(1234, t[-1])
    WRITERS[kind](tmp_path / f"none_{kind}", *some_events(n=1))
    assert open_events(tmp_path / f"none_{kind}").span() == Span(0, 0)


def test_a_span_reads_little_of_a_file(tmp_path, monkeypatch):
    WRITERS["evt2.raw"](tmp_path / "a.raw", *some_events(n=40_000))
    decoded, decode = [], Evt2Reader._decode
    monkeypatch.setattr(Evt2Reader, "_decode", lambda self, start, *a: decoded.append(start) or decode(self, start, *a))
    assert LazyReader(tmp_path / "a.raw", (240, 304)).span() == Span(0, None) and decoded == [0]
    assert open_events(tmp_path / "a.raw").span().last_us and len(decoded) > 3


def test_the_beginning_of_a_packed_npz_is_unpacked_alone(tmp_path):
    """Its last event is not known then, where it does not lie in the beginning."""
    for count, last in ((30_000, True), (100_000, False)):
        t, *others = some_events(1234, n=count)
        WRITERS["packed.npz"](tmp_path / f"{count}.npz", t, *others)
        reader = LazyReader(tmp_path / f"{count}.npz", (240, 304))
        assert reader.span() == Span(1234, int(t[-1]) if last else None)
        assert reader.span(exact=True) == Span(1234, int(t[-1])) and len(reader.read(0, 2_000_000)) == count


def test_the_span_of_a_dat_knows_of_a_wrap(tmp_path):
    t = np.array([2**32 - 1000, 2**32 + 500])
    WRITERS["a_td.dat"](tmp_path / "a_td.dat", t, 0 * t, 0 * t, 0 * t)
    assert open_events(tmp_path / "a_td.dat").span() == Span(2**32 - 1000, 2**32 + 500)


def test_frames_of_rvt_on_any_clock(tmp_path):
    boxes = {k: [(5, 5, 20, 20, 0)] for k in (1, 9, 10, 15)}
    for offset in (0, 58_000_000_000):
        path = tmp_path / str(offset) / "train" / "a"
        folder = write_sequence(path, boxes)
        for file in (folder / "timestamps_us.npy", path / "labels_v2" / "timestamps_us.npy"):
            np.save(file, np.load(file) + offset)
        with np.load(path / "labels_v2" / "labels.npz") as labels:
            rows, index = labels["labels"], labels["objframe_idx_2_label_idx"]
        rows["t"] += offset
        np.savez(path / "labels_v2" / "labels.npz", labels=rows, objframe_idx_2_label_idx=index)
    sets = [create_dataset("rvt", "train", root=tmp_path / root, num_steps=2) for root in ("0", "58000000000")]
    assert all(torch.equal(sets[0][k].x, sets[1][k].x) for k in range(4))
    assert [d.ground_truth()["images"][0]["start_us"] for d in sets] == [0, 58_000_000_000]
    loose = Prophesee(min_diagonal=0, min_side=0)
    assert [loose.score(d.ground_truth(), [])["images"] for d in sets] == [2, 2]


def test_the_start_of_a_recording_cannot_be_guessed_from_labels_of_hours(tmp_path):
    write_clip(tmp_path / "train", "a", [600_000])
    truth = build(tmp_path).ground_truth()
    image = truth["images"][0]
    image["t_us"] += 58_000_000_000
    del image["start_us"]
    with pytest.raises(ValueError, match="clip 'a': its first label time is t_us = 58000600000.*`start_us`"):
        PROTOCOLS["prophesee"].score(truth, [])
    loose = Prophesee(min_diagonal=0, min_side=0)
    for start, boxes in ((58_000_099_999, 1), (58_000_100_000, 0)):
        image["start_us"] = start
        assert loose.score(truth, [])["boxes"] == boxes


def test_early_labels_count_from_the_start():
    boxes = np.array([(t, 9, 9, 30, 30, 0, k, 1) for k, t in enumerate((7_000_000, 7_099_999, 7_100_000))], BOX_DTYPE)
    kept, left_out = LabelRules(from_ms=100).apply(boxes, 304, 240, True, start_us=7_000_000)
    assert kept["t"].tolist() == [7_100_000] and left_out == {"before 100 ms": 2}


def test_a_recording_that_cannot_be_opened_costs_no_other(tmp_path):
    """It says what is wrong with it when it is read, or in the check."""
    root = write_recording(tmp_path, "a_td.dat", 0)
    (root / "train" / "b_td.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    write_clip(root / "train", "b", [400_000], events=False)
    data = build(root)
    assert len(data) == len(LABELS) + 1 and data.ground_truth()["images"][-1]["start_us"] == 0
    with pytest.raises(ValueError, match="b_td.h5"):
        data[len(LABELS)]
    with h5py.File(root / "train" / "b_td.h5", "w"):
        pass
    assert len(build(root)) == len(data)
