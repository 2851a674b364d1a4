"""Count frames: every event in its one cell, none lost, none wrapped. And the augmentation of frames and boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.event_augment import EventAugment
from data.events import GROUND, Events, count_frames, last_event_frames


def events_of(t, x, y, p):
    return Events(np.array(t, np.int64), np.array(x, np.uint16), np.array(y, np.uint16), np.array(p, np.uint8))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 60), st.integers(0, 4), st.integers(0, 3), st.integers(0, 1)), max_size=200),
    st.integers(0, 20),
    st.integers(1, 7),
    st.integers(7, 40),
    st.integers(1, 5),
)
def test_equal_to_counting_one_by_one(rows, t0, num_steps, span, clip):
    rows = sorted(rows)
    expected = np.zeros((num_steps, 2, 4, 5), int)
    for t, x, y, p in rows:
        if t0 < t <= t0 + span:
            expected[(t - t0 - 1) * num_steps // span, p, y, x] += 1
    events = events_of(*zip(*rows, strict=True)) if rows else events_of([], [], [], [])
    frames = count_frames(events, t0, t0 + span, num_steps, 4, 5, clip)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, np.minimum(expected, clip))

    shown = np.full((num_steps, 3, 4, 5), GROUND)
    for t, x, y, p in rows:
        if t0 < t <= t0 + span:
            shown[(t - t0 - 1) * num_steps // span, :, y, x] = 255 * p
    frames = last_event_frames(events, t0, t0 + span, num_steps, 4, 5)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, shown)


@pytest.mark.parametrize(("span", "num_steps"), [(250_000, 5), (7, 7), (10, 3), (100, 7)])
def test_every_microsecond_of_the_window_has_its_step(span, num_steps):
    t = np.arange(1000, 1000 + span + 2)  # one before the window begins, one after it ends
    zeros = np.zeros(len(t), int)
    frames = count_frames(events_of(t, zeros, zeros, zeros), 1000, 1000 + span, num_steps, 1, 1, 255)
    lengths = np.bincount(np.arange(span) * num_steps // span)
    np.testing.assert_array_equal(frames[:, 0, 0, 0], np.minimum(lengths, 255))
    if span <= 100:
        assert frames.sum() == span


@pytest.mark.parametrize("count", [255, 256, 260, 65_536, 70_000])
def test_counts_saturate(count):
    events = events_of(np.full(count, 5), np.full(count, 3), np.full(count, 2), np.ones(count))
    frames = count_frames(events, 0, 10, 2, 4, 5)
    assert frames[0, 1, 2, 3] == 255 and frames.sum() == 255
    assert count_frames(events, 0, 10, 2, 4, 5, clip=8).sum() == 8


def test_bad_arguments_are_named():
    one = events_of([5], [3], [2], [1])
    for frames in (count_frames, last_event_frames):
        with pytest.raises(ValueError, match="11 steps do not fit a window of 10 us"):
            frames(one, 0, 10, 11, 4, 5)
        with pytest.raises(ValueError, match="0 us"):
            frames(one, 10, 10, 1, 4, 5)
        with pytest.raises(ValueError, match="x=3, y=2 on a 3x4 frame"):
            frames(one, 0, 10, 1, 4, 3)
    for clip in (0, 256):
        with pytest.raises(ValueError, match="outside 1..255"):
            count_frames(one, 0, 10, 1, 4, 5, clip)


def marked_frames():
    """Frames in which each box is a filled rectangle, so boxes can be found again from the pixels."""
    frames = np.zeros((3, 2, 40, 60), np.uint8)
    boxes = np.array([[5, 10, 15, 30], [40, 4, 58, 12]], np.float32)
    for k, (x0, y0, x1, y1) in enumerate(boxes.astype(int)):
        frames[:, 1, y0:y1, x0:x1] = k + 1
    frames[0, 0, 39, 0] = 9
    return frames, boxes, np.array([0, 1])


def boxes_in(frames, labels):
    found = []
    for label in labels:
        rows, cols = np.nonzero((frames == label + 1).any(axis=(0, 1)))
        found.append([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1])
    return np.array(found, np.float32).reshape(-1, 4)


def test_a_mirror_moves_pixels_and_boxes_alike():
    frames, boxes, labels = marked_frames()
    x, b, k = EventAugment(hflip=1.0)(frames, boxes, labels, np.random.default_rng(0))
    np.testing.assert_array_equal(x, frames[..., ::-1])
    np.testing.assert_array_equal(b, [[45, 10, 55, 30], [2, 4, 20, 12]])
    np.testing.assert_array_equal(b, boxes_in(x, k))


@pytest.mark.parametrize("seed", range(30))
def test_a_shift_moves_pixels_and_boxes_alike(seed):
    frames, boxes, labels = marked_frames()
    x, b, k = EventAugment(hflip=0.5, translate=0.6)(frames, boxes, labels, np.random.default_rng(seed))
    assert x.shape == frames.shape and x.flags.c_contiguous
    np.testing.assert_array_equal(b, boxes_in(x, k))
    full = {0: 10 * 20, 1: 18 * 8}
    for label, area in full.items():
        share = (x[0, 1] == label + 1).sum() / area
        assert (label in k) == (share >= 0.5)


def test_what_a_shift_brings_in_has_no_events():
    frames = np.full((2, 3, 20, 30), 9, np.uint8)
    x, *_ = EventAugment(translate=0.5)(frames, np.zeros((0, 4)), np.zeros(0), np.random.default_rng(1), empty=GROUND)
    assert set(np.unique(x)) == {9, GROUND}


def test_shifts_reach_all_sides_and_drop_what_leaves():
    shifts, kept = [], []
    for seed in range(200):
        x, _, k = EventAugment(translate=1.0)(*marked_frames(), np.random.default_rng(seed))
        kept.append(len(k))
        if 0 in k:
            x0, y0, *_ = boxes_in(x, [0])[0]
            shifts.append((x0 - 5, y0 - 10))
    assert set(kept) == {0, 1, 2}
    for axis in zip(*shifts, strict=True):
        assert min(axis) < 0 < max(axis)


def test_polarity_swaps_the_channels():
    frames, boxes, labels = marked_frames()
    x, b, _ = EventAugment(polarity=1.0)(frames, boxes, labels, np.random.default_rng(0))
    np.testing.assert_array_equal(x, frames[:, ::-1])
    np.testing.assert_array_equal(b, boxes)


def test_inputs_stay_and_the_generator_decides_all():
    inputs = marked_frames()
    augment = EventAugment(hflip=0.5, translate=0.3, polarity=0.5)
    first, second = (augment(*inputs, np.random.default_rng(3)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(inputs, marked_frames(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({augment(*inputs, np.random.default_rng(s))[0].tobytes() for s in range(10)}) > 5


def test_no_boxes_stay_no_boxes():
    frames, boxes, labels = marked_frames()
    x, b, k = EventAugment(hflip=1.0, translate=0.5)(frames, boxes[:0], labels[:0], np.random.default_rng(0))
    assert b.shape == (0, 4) and k.shape == (0,)


@pytest.mark.parametrize("option", ["hflip", "translate", "polarity", "min_visible"])
def test_options_outside_their_range_are_named(option):
    with pytest.raises(ValueError, match=f"{option} = 1.5"):
        EventAugment(**{option: 1.5})
