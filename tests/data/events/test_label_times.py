"""Label times that do not match the events are reported in one line per recording, before a training."""

import numpy as np
import pytest
from gen1_folder import build
from recording_files import WRITERS

from data import Problems
from data.check import check_dataset
from data.recordings import write_boxes
from data.recordings.boxes import BOX_DTYPE

SILENT, UNIT = "labelled windows without events", "label times in another unit"


def write_recording(root, t, labels, kind="a_td.dat", ending="_td.dat"):
    """A clip with events at `t` and a box at each of `labels`."""
    folder = root / "train"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    WRITERS[kind](folder / f"a{ending}", t, *(rng.integers(0, limit, len(t)) for limit in (304, 240, 2)))
    rows = [(when, 10, 20, 50, 40, k % 2, k, 1) for k, when in enumerate(labels)]
    write_boxes(folder / "a_bbox.npy", np.array(rows, BOX_DTYPE))
    return root


def evenly(first, last, n=3000):
    return np.linspace(first, last, n).astype(np.int64)


def found(root, **options):
    """Lines of kind and value: of a training's start, of the fast check, of the whole check."""
    start = Problems()
    build(root, problems=start, **options)
    checks = [check_dataset("gen1", ["train"], root=root, fast=fast, **options).problems for fast in (True, False)]
    kinds = (SILENT, UNIT)
    return [[(p.kind, p.value, p.remedy) for p in some.items if p.kind in kinds] for some in (start, *checks)]


@pytest.mark.parametrize("sampling", ["random", "sequential"])
def test_labels_before_the_first_event(tmp_path, sampling):
    """As of a raw file whose labels were made with the SDK, which shifts its clock to begin at 0."""
    root = write_recording(tmp_path, evenly(6_437_104, 9_437_104), [1_000_000, 2_000_000])
    for ((kind, value, remedy),) in found(root, sampling=sampling):
        said = "2 of 2 labelled windows hold no events, the first event is at 6437104 us, the last at 9437104 us"
        assert (kind, value) == (SILENT, said) and remedy.endswith("set data.args.shift_clock=true")


def test_labels_before_the_first_event_of_a_raw_recording(tmp_path):
    """Its last event is found by a pass only, which the check takes."""
    root = write_recording(tmp_path, evenly(6_437_104, 9_437_104), [1_000_000, 6_900_000], "evt3.raw", "_td.raw")
    said = "1 of 2 labelled windows hold no events, the first event is at 6437104 us"
    for lines, last in zip(found(root), ("", "", ", the last at 9437104 us"), strict=True):
        assert [value for _, value, _ in lines] == [said + last]


@pytest.mark.parametrize(("kind", "ending"), [("a_td.dat", "_td.dat"), ("a.npz", "_td.npz"), ("evt2.raw", "_td.raw")])
def test_labels_in_a_gap_and_at_the_end(tmp_path, kind, ending):
    """The gap is known to a look at every event only; the windows of its border labels reach events."""
    t = np.concatenate([evenly(1000, 1_000_000), evenly(3_000_000, 4_000_000)])
    labels = [500_000, 1_249_000, 1_250_000, 2_999_999, 3_000_000, 3_500_000]
    start, fast, whole = found(write_recording(tmp_path, t, labels, kind, ending))
    assert start == fast == []
    said = "2 of 6 labelled windows hold no events, the first event is at 1000 us, the last at 4000000 us, and none "
    assert [(kind, value) for kind, value, _ in whole] == [(SILENT, said + "from 1000000 us to 3000000 us")]
    start, fast, whole = found(write_recording(tmp_path, t, [*labels, 4_300_000], kind, ending))
    assert [value[:6] for _, value, _ in whole] == ["3 of 7"]  # one line for both
    if ending != "_td.raw":
        assert [value[:6] for _, value, _ in start] == [value[:6] for _, value, _ in fast] == ["1 of 7"]


def test_nothing_is_said_where_labels_see_events(tmp_path):
    root = write_recording(tmp_path, evenly(700_000, 4_000_000), [710_000, 2_000_000, 4_100_000])
    assert found(root) == [[], [], []] and build(root, problems=Problems(strict=True))


def test_labels_of_a_long_session_on_events_from_zero(tmp_path):
    root = write_recording(tmp_path, evenly(0, 60_000_000), [976_500_000, 1_036_000_000])
    for ((kind, value, remedy),) in found(root):
        assert (kind, value[:6]) == (SILENT, "2 of 2") and "shift_clock" not in remedy


@pytest.mark.parametrize(
    ("scale_t", "scale_label", "factor", "says"),
    [
        (1000, 1, "multiplied by 1000 ", "divide event times in ns"),
        (1, 1000, "divided by 1000 ", "divide label times in ns"),
        (1, 1e-3, "multiplied by 1000 ", "multiply label times in ms"),
        (1, 1e-6, "multiplied by 1000000 ", "multiply label times in ms or s"),
    ],
)
def test_another_unit_is_named_with_its_factor(tmp_path, scale_t, scale_label, factor, says):
    labels = (np.array([1_000_000, 3_000_000, 7_000_000]) * scale_label).astype(np.int64)
    root = write_recording(tmp_path, evenly(5, 8_000_000) * scale_t, labels, "a.npz", "_td.npz")
    for ((kind, value, remedy),) in found(root):
        assert kind == UNIT and f": {factor}the label times would fit" in value and says in remedy
        assert value.startswith(f"labels from {labels[0]} to {labels[-1]} us, events from {5 * scale_t} to ")


def test_label_files_are_not_changed_by_a_suspicion(tmp_path):
    root = write_recording(tmp_path, evenly(0, 3_000_000_000, 30_000), [1_000_000, 2_000_000], "a.npz", "_td.npz")
    data = build(root)
    assert [int(data[k].x.sum()) for k in (0, 1)] == [2, 2] and len(data) == 2  # of 30,000: times are ns
    assert data.problems.counts() == {UNIT: 1}
