"""Label rules: each by itself, and the published sets on constructed boxes."""

import numpy as np
import pytest

from data.events.label_rules import LABEL_RULES, LabelRules, build_label_rules
from data.recordings.boxes import BOX_DTYPE, NO_TRACK

WIDTH, HEIGHT = 304, 240


def boxes_at(*rows):
    """Rows of t, x, y, w, h."""
    return np.array([(t, x, y, w, h, 0, k, 1) for k, (t, x, y, w, h) in enumerate(rows)], BOX_DTYPE)


def of_times(times):
    return boxes_at(*((t, 10, 10, 50, 50) for t in times))


def apply(rules, boxes, training=True, width=WIDTH, height=HEIGHT):
    kept, left_out = rules.apply(boxes, width, height, training)
    assert len(kept) + sum(left_out.values()) == len(boxes)
    return kept, left_out


def test_no_rules_keep_all():
    boxes = boxes_at((0, 0, 0, 1, 1), (1, 0, 0, 304, 240))
    kept, left_out = apply(LabelRules(), boxes)
    np.testing.assert_array_equal(kept, boxes)
    assert not left_out


def test_sizes_count_with_their_limits():
    sides = [(10, 30), (9.9, 40), (40, 9.9), (18, 24), (17.9, 24), (10, 28)]
    kept, left_out = apply(LabelRules(min_diagonal=30, min_side=10), boxes_at(*((5, 0, 0, w, h) for w, h in sides)))
    assert [(box["w"], box["h"]) for box in kept] == [(10, 30), (18, 24)]
    assert left_out == {"diagonal below 30 px": 2, "a side below 10 px": 2}


@pytest.mark.parametrize(("width", "share", "widest"), [(304, 0.9, 273), (1280, 0.9, 1152), (640, 0.9, 576)])
def test_wide_boxes_go_in_training_only(width, share, widest):
    boxes = boxes_at((5, 0, 0, widest, 20), (5, 0, 0, widest + 0.5, 20))
    rules = LabelRules(max_width_share=share)
    kept, left_out = apply(rules, boxes, width=width)
    assert kept["w"].tolist() == [widest] and left_out == {f"wider than {widest} px": 1}
    assert len(apply(rules, boxes, training=False, width=width)[0]) == 2


def test_boxes_end_at_the_last_pixel():
    boxes = boxes_at((5, 290, 200, 14, 40), (5, 303, 0, 1, 9), (5, 303.5, 0, 0.5, 9), (5, 0, 0, 303, 239))
    before = boxes.copy()
    kept, left_out = apply(LabelRules(last_pixel=True), boxes)
    assert [[box[k] for k in "xywh"] for box in kept] == [[290, 200, 13, 39], [0, 0, 303, 239]]
    assert left_out == {"within the last pixel": 2}
    np.testing.assert_array_equal(boxes, before)


def test_early_labels():
    kept, left_out = apply(LabelRules(from_ms=100), of_times([99_999, 100_000, 100_001]))
    assert kept["t"].tolist() == [100_000, 100_001] and left_out == {"before 100 ms": 1}


def test_a_grid_takes_times_that_jitter_and_follows_them():
    times = [
        249_999,
        251_000,
        501_500,
        753_000,
        878_000,
        1_505_500,
    ]  # the last one lies three steps after 753,000 + 2.5 ms
    kept, left_out = apply(LabelRules(grid_ms=250), of_times(times))
    assert kept["t"].tolist() == [249_999, 501_500, 753_000] and left_out == {"off the grid of 250 ms": 3}
    kept, _ = apply(LabelRules(grid_ms=250, tolerance_ms=3), of_times(times))
    assert kept["t"].tolist() == [249_999, 501_500, 753_000, 1_505_500]


def test_a_grid_keeps_all_boxes_of_a_time_and_spans_gaps():
    times = [250_000, 250_000, 500_000, 2_000_000, 2_000_000, 2_100_000]
    kept, _ = apply(LabelRules(grid_ms=250), of_times(times))
    assert kept["t"].tolist() == times[:-1]


@pytest.mark.parametrize(("hz", "step"), [(60, 6), (30, 3), (10, 1), (4, 1)])
def test_thinning_to_ten_a_second(hz, step):
    times = (np.arange(1, 61) * 1e6 / hz).astype(int)
    kept, _ = apply(LabelRules(label_hz=10), of_times(times))
    assert kept["t"].tolist() == times[::step].tolist()


def test_one_label_time_is_thin_already():
    assert len(apply(LabelRules(label_hz=10), of_times([5, 5]))[0]) == 2
    assert len(apply(LabelRules(label_hz=10, grid_ms=None), of_times([]))[0]) == 0


def test_rvt_on_gen1():
    rows = [
        (50_000, 10, 10, 50, 50),  # before the first frame
        (249_999, 10, 10, 50, 50),
        (249_999, 0, 10, 274, 50),  # spans the frame
        (249_999, 10, 10, 9, 50),
        (374_999, 10, 10, 50, 50),  # between the frames
        (499_998, 294, 10, 10, 50),  # 9 pixels wide up to the last pixel
        (749_999, 10, 10, 20, 20),  # too small a diagonal
        (1_000_001, 10, 10, 50, 50),
    ]
    kept, left_out = apply(LABEL_RULES["rvt"], boxes_at(*rows))
    assert kept["track_id"].tolist() == [1, 7] and len(left_out) == 5
    assert apply(LABEL_RULES["rvt"], boxes_at(*rows), training=False)[0]["track_id"].tolist() == [1, 2, 7]


def test_rvt_on_1mpx():
    rows = [(t, 10, 10, w, w) for t in range(16_000, 1_000_000, 16_667) for w in (4, 5, 1200)]
    kept, _ = apply(LABEL_RULES["rvt_1mpx"], boxes_at(*rows), width=1280, height=1280)
    assert set(kept["w"].tolist()) == {5} and np.diff(kept["t"]).tolist() == [6 * 16_667] * 8
    assert kept["t"][0] == 16_000 + 6 * 16_667  # the first at 100 ms or later


@pytest.mark.parametrize("name", ["all", "last_of_track", "eas_snn"])
def test_codes_that_filter_nothing_keep_phantoms_and_crumbs(name):
    boxes = boxes_at(*((t, 0, 0, 304, 3) for t in range(1000, 100_000, 1000)))
    assert len(apply(LABEL_RULES[name], boxes)[0]) == len(boxes)


def test_rvt_and_eas_snn_name_the_clips_without_labels():
    assert len(set(LABEL_RULES["rvt"].drop_clips)) == 4
    assert LABEL_RULES["rvt"].drop_clips == LABEL_RULES["eas_snn"].drop_clips


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("rtv", "labels = 'rtv', did you mean 'rvt'.*There are all, rvt"),
        (3, "labels = 3"),
        ({"min_diag": 3}, "'min_diag', did you mean 'min_diagonal'"),
        ({"min_side": -1}, "min_side = -1"),
        ({"min_side": "10"}, "min_side = '10'"),
        ({"grid_ms": 0}, "grid_ms = 0"),
        ({"label_hz": True}, "label_hz = True"),
        ({"grid_ms": 250, "label_hz": 10}, "grid_ms = 250 and label_hz = 10: give one"),
        ({"last_pixel": "no"}, "last_pixel = 'no'"),
        ({"one_per_track": 1}, "one_per_track = 1: give true or false"),
        ({"drop_clips": "a"}, "drop_clips = 'a'"),
    ],
)
def test_wrong_rules_are_named(what, says):
    with pytest.raises(ValueError, match=says):
        build_label_rules(what)


@pytest.mark.parametrize("name", ["last_of_track", "ems_yolo", "spikeyolo"])
def test_the_last_box_of_a_track_at_a_time_is_kept(name):
    """Last of those at one time; a box without a track stays, and so does each where one id stands for none."""
    boxes = of_times([5, 5, 5, 9, 9, 9])
    boxes["x"], boxes["track_id"] = range(6), [7, 8, 7, NO_TRACK, 7, NO_TRACK]
    kept, left_out = apply(build_label_rules(name), boxes)
    assert kept["x"].tolist() == [1, 2, 3, 4, 5] and left_out == {"repeated in their track": 1}
    assert len(apply(LABEL_RULES["all"], boxes)[0]) == len(apply(LABEL_RULES["eas_snn"], boxes)[0]) == 6
    for ids in (0, NO_TRACK):
        boxes["track_id"] = ids
        assert len(apply(build_label_rules(name), boxes)[0]) == 6


def test_rules_by_name_and_by_value():
    assert build_label_rules("rvt") is LABEL_RULES["rvt"]
    assert build_label_rules({"min_side": 10}) == LabelRules(min_side=10)
