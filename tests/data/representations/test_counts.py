"""Count frames: every event in its one cell, none lost, none wrapped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.recordings import Events
from data.representations.counts import Counts
from data.representations.last_event import GROUND, LastEvent


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
    frames = Counts(num_steps, clip)(events, t0, t0 + span, 4, 5)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, np.minimum(expected, clip))

    shown = np.full((num_steps, 3, 4, 5), GROUND)
    for t, x, y, p in rows:
        if t0 < t <= t0 + span:
            shown[(t - t0 - 1) * num_steps // span, :, y, x] = 255 * p
    frames = LastEvent(num_steps)(events, t0, t0 + span, 4, 5)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, shown)


@pytest.mark.parametrize(("span", "num_steps"), [(250_000, 5), (7, 7), (10, 3), (100, 7)])
def test_every_microsecond_of_the_window_has_its_step(span, num_steps):
    t = np.arange(1000, 1000 + span + 2)  # one before the window begins, one after it ends
    zeros = np.zeros(len(t), int)
    frames = Counts(num_steps)(events_of(t, zeros, zeros, zeros), 1000, 1000 + span, 1, 1)
    lengths = np.bincount(np.arange(span) * num_steps // span)
    np.testing.assert_array_equal(frames[:, 0, 0, 0], np.minimum(lengths, 255))
    if span <= 100:
        assert frames.sum() == span


@pytest.mark.parametrize("count", [255, 256, 260, 65_536, 70_000])
def test_counts_saturate(count):
    events = events_of(np.full(count, 5), np.full(count, 3), np.full(count, 2), np.ones(count))
    frames = Counts(2)(events, 0, 10, 4, 5)
    assert frames[0, 1, 2, 3] == 255 and frames.sum() == 255
    assert Counts(2, clip=8)(events, 0, 10, 4, 5).sum() == 8


def test_bad_arguments_are_named():
    one = events_of([5], [3], [2], [1])
    for form in (Counts, LastEvent):
        with pytest.raises(ValueError, match="11 steps do not fit a window of 10 us"):
            form(11)(one, 0, 10, 4, 5)
        with pytest.raises(ValueError, match="0 us"):
            form(1)(one, 10, 10, 4, 5)
        with pytest.raises(ValueError, match="x=3, y=2 on a 3x4 frame"):
            form(1)(one, 0, 10, 4, 3)
    for clip in (0, 256):
        with pytest.raises(ValueError, match="outside 1..255"):
            Counts(1, clip)
