"""Augmentation of event frames and boxes: boxes stay on their objects."""

import numpy as np
import pytest

from data.events.augment import EventAugment
from data.recordings import Events


def marked_frames():
    """Frames in which each box is a filled rectangle, so boxes can be found again from the pixels."""
    frames = np.zeros((3, 2, 40, 60), np.uint8)
    boxes = np.array([[5, 10, 15, 30], [40, 4, 58, 12]], np.float32)
    for k, (x0, y0, x1, y1) in enumerate(boxes.astype(int)):
        frames[:, 1, y0:y1, x0:x1] = k + 1
    frames[0, 0, 39, 0] = 9
    return frames, boxes, np.array([0, 1])


def changed(augment, inputs, seed, empty=0):
    return augment.draw(np.random.default_rng(seed)).frames(*inputs, empty)


def boxes_in(frames, labels):
    found = []
    for label in labels:
        rows, cols = np.nonzero((frames == label + 1).any(axis=(0, 1)))
        found.append([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1])
    return np.array(found, np.float32).reshape(-1, 4)


def test_a_mirror_moves_pixels_and_boxes_alike():
    frames, boxes, labels = marked_frames()
    x, b, k = changed(EventAugment(hflip=1.0), (frames, boxes, labels), 0)
    np.testing.assert_array_equal(x, frames[..., ::-1])
    np.testing.assert_array_equal(b, [[45, 10, 55, 30], [2, 4, 20, 12]])
    np.testing.assert_array_equal(b, boxes_in(x, k))


@pytest.mark.parametrize("seed", range(30))
def test_a_shift_moves_pixels_and_boxes_alike(seed):
    frames, boxes, labels = marked_frames()
    x, b, k = changed(EventAugment(hflip=0.5, translate=0.6), (frames, boxes, labels), seed)
    assert x.shape == frames.shape and x.flags.c_contiguous
    np.testing.assert_array_equal(b, boxes_in(x, k))
    full = {0: 10 * 20, 1: 18 * 8}
    for label, area in full.items():
        share = (x[0, 1] == label + 1).sum() / area
        assert (label in k) == (share >= 0.5)


def test_what_a_shift_brings_in_has_no_events():
    frames = np.full((2, 3, 20, 30), 9, np.uint8)
    x, *_ = changed(EventAugment(translate=0.5), (frames, np.zeros((0, 4)), np.zeros(0)), 1, empty=127)
    assert set(np.unique(x)) == {9, 127}


def test_shifts_reach_all_sides_and_drop_what_leaves():
    shifts, kept = [], []
    for seed in range(200):
        x, _, k = changed(EventAugment(translate=1.0), marked_frames(), seed)
        kept.append(len(k))
        if 0 in k:
            x0, y0, *_ = boxes_in(x, [0])[0]
            shifts.append((x0 - 5, y0 - 10))
    assert set(kept) == {0, 1, 2}
    for axis in zip(*shifts, strict=True):
        assert min(axis) < 0 < max(axis)


@pytest.mark.parametrize("seed", range(40))
def test_a_zoom_moves_pixels_and_boxes_alike(seed):
    """Nearest cells: an edge lands within one pixel of where it belongs."""
    frames, boxes, labels = marked_frames()
    augment = EventAugment(hflip=0.5, translate=0.3, zoom=1.0, min_visible=0.01)
    x, b, k = changed(augment, (frames, boxes, labels), seed)
    assert x.shape == frames.shape and set(np.unique(x)) <= {0, 1, 2, 9}
    for box, label in zip(b, k, strict=True):
        if (box[2:] - box[:2]).min() > 1.5:  # a thinner one may fall between two cells
            np.testing.assert_allclose(box, boxes_in(x, [label])[0], atol=1.01)


def test_zoom_goes_both_ways_and_to_its_bounds():
    factors = [EventAugment(zoom=0.5).draw(np.random.default_rng(seed)).zoom for seed in range(300)]
    assert 1 / 1.5 <= min(factors) < 0.69 and 1.45 < max(factors) <= 1.5
    frames, boxes, labels = marked_frames()
    np.testing.assert_array_equal(changed(EventAugment(), (frames, boxes, labels), 0)[0], frames)


def stream(count=60_000, t0=1_000, span=100_000, height=40, width=60):
    rng = np.random.default_rng(5)
    t = np.sort(rng.integers(t0 + 1, t0 + span + 1, count))
    x, y = (rng.integers(0, n, count).astype(np.uint16) for n in (width, height))
    return Events(t, x, y, rng.integers(0, 2, count).astype(np.uint8)), (t0, t0 + span, height, width)


def test_polarity_swaps_off_and_on():
    events, window = stream()
    swapped = EventAugment(polarity=1.0).draw(np.random.default_rng(0)).events(events, *window)
    np.testing.assert_array_equal(swapped.p, 1 - events.p)
    np.testing.assert_array_equal(swapped.t, events.t)
    assert set(np.unique(events.p)) == {0, 1}


def test_random_loss_is_of_the_share_that_was_drawn():
    events, window = stream()
    lost = []
    for seed in range(20):
        change = EventAugment(drop=0.6).draw(np.random.default_rng(seed))
        left = change.events(events, *window)
        lost.append(1 - len(left) / len(events))
        assert abs(lost[-1] - change.drop) < 0.02 and change.drop <= 0.6
    assert max(lost) > 0.4 and min(lost) < 0.2


def test_loss_in_time_is_one_stretch():
    events, window = stream()
    for seed in range(20):
        change = EventAugment(drop_time=0.8).draw(np.random.default_rng(seed))
        left = change.events(events, *window)
        gap = np.diff(left.t, prepend=window[0], append=window[1]).max() / 100_000
        share = change.lost_time[1] - change.lost_time[0]
        assert abs(gap - share) < 0.01 and abs(1 - len(left) / len(events) - share) < 0.02


def test_loss_in_an_area_is_one_rectangle():
    events, window = stream()
    for seed in range(20):
        change = EventAugment(drop_area=0.8).draw(np.random.default_rng(seed))
        left = change.events(events, *window)
        seen = np.zeros((40, 60), bool)
        seen[left.y, left.x] = True
        rows, cols = (round((b - a) * n) for (a, b), n in ((change.lost_y, 40), (change.lost_x, 60)))
        if min(rows, cols) > 4:
            x0, y0, x1, y1 = boxes_in(~seen[None, None] * np.uint8(1), [0])[0]
            assert abs(x1 - x0 - cols) <= 2 and abs(y1 - y0 - rows) <= 2 and (~seen).sum() == (x1 - x0) * (y1 - y0)
        else:
            assert (~seen).sum() <= 5 * 60


def test_inputs_stay_and_the_generator_decides_all():
    inputs = marked_frames()
    augment = EventAugment(hflip=0.5, translate=0.3, zoom=0.3)
    first, second = (changed(augment, inputs, 3) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(inputs, marked_frames(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({changed(augment, inputs, s)[0].tobytes() for s in range(10)}) > 5
    events, window = stream()
    some, same = (EventAugment(drop=0.9).draw(np.random.default_rng(1)).events(events, *window) for _ in range(2))
    np.testing.assert_array_equal(some.t, same.t)


def test_no_boxes_stay_no_boxes():
    frames, boxes, labels = marked_frames()
    x, b, k = changed(EventAugment(hflip=1.0, translate=0.5), (frames, boxes[:0], labels[:0]), 0)
    assert b.shape == (0, 4) and k.shape == (0,)


@pytest.mark.parametrize("option", ["hflip", "translate", "polarity", "drop", "drop_time", "drop_area", "min_visible"])
def test_options_outside_their_range_are_named(option):
    with pytest.raises(ValueError, match=f"{option} = 1.5"):
        EventAugment(**{option: 1.5})


@pytest.mark.parametrize("value", [True, "0.5", None, float("nan")])
def test_values_that_are_no_number_are_named(value):
    with pytest.raises(ValueError, match="hflip = .*give a number from 0 to 1"):
        EventAugment(hflip=value)


def test_zoom_out_of_range_is_named():
    with pytest.raises(ValueError, match="zoom = -0.5"):
        EventAugment(zoom=-0.5)
