"""Distinguishing details of each representation, and bugs of published code that it avoids."""

import numpy as np
import pytest
from slow_forms import events_of

from data.representations import build_representation


def frames(options, rows, num_steps=1, t1=100, height=2, width=2):
    return build_representation(options, num_steps)(events_of(rows), 0, t1, height, width)


COUNTING = [
    ({"name": "counts"}, 255),
    ({"name": "counts", "clip": 1}, 1),
    ({"name": "stacked_histogram", "bins": 2}, 10),
    ({"name": "stacked_histogram", "bins": 2, "clip": 255, "span": "events"}, 255),
    ({"name": "micro_bins", "bins": 2}, 255),
    ({"name": "micro_bins", "bins": 2, "span": "events"}, 255),
    ({"name": "sbt"}, 255),
    ({"name": "sbn"}, 255),
    ({"name": "sbt", "polarity": "signed"}, 127),
    ({"name": "mixed_density", "bins": 2}, 32),
    ({"name": "mixed_density", "bins": 2, "clip": 127}, 127),
]


@pytest.mark.parametrize(("options", "most"), COUNTING, ids=str)
@pytest.mark.parametrize("count", [255, 256, 260, 512, 65_536, 70_000])
def test_counters_saturate_and_never_wrap(options, most, count):
    x = frames(options, [(20, 1, 1, 1)] * count).astype(int)
    assert x.max() == most and set(np.unique(x[..., 1, 1])) <= {0, most}
    assert not x[..., 0, :].any() and not x[..., 0].any()
    if build_representation(options, 1).dtype == np.int8:
        assert frames(options, [(20, 1, 1, 0)] * count).min() == -most


def test_floats_keep_every_event_of_a_busy_cell():
    rows = [(20, 1, 1, 1)] * 70_000
    assert frames({"name": "voxel_grid", "bins": 3}, rows)[0, 0, 1, 1] == 70_000
    assert frames({"name": "event_volume", "bins": 3}, rows)[0, 3, 1, 1] == 70_000
    assert frames({"name": "taf"}, rows)[0, 8].max() <= 255


def test_voxel_cube_gives_each_polarity_and_bin_its_channel():
    """Published, (p + 1) * (b + 1) - 1 puts (p 0, b 1) and (p 1, b 0) into channel 1 and nothing into channel 2."""
    channels = {}
    for p in (0, 1):
        for b in (0, 1):
            cube = frames({"name": "voxel_cube", "tbin": 2}, [(1 + 50 * b, 0, 0, p)])
            (channels[p, b],) = np.flatnonzero(cube[0, :, 0, 0]).tolist()
    assert sorted(channels.values()) == [0, 1, 2, 3]
    assert channels[0, 1] != channels[1, 0]
    assert channels == {(p, b): 2 * p + b for p in (0, 1) for b in (0, 1)}


def test_stacked_histogram_is_polarity_major():
    x = frames({"name": "stacked_histogram", "bins": 10}, [(31, 1, 0, 1)])
    assert np.argwhere(x).tolist() == [[0, 1 * 10 + 3, 0, 1]]


def test_stacked_histogram_of_the_step_or_of_its_events():
    rows = [(40, 0, 0, 0), (44, 0, 0, 0), (50, 0, 0, 0)]
    nominal = frames({"name": "stacked_histogram", "bins": 10}, rows)
    own = frames({"name": "stacked_histogram", "bins": 10, "span": "events"}, rows)
    assert np.flatnonzero(nominal).tolist() == [3 * 4, 4 * 4]  # ]30, 40] and ]40, 50]
    assert np.flatnonzero(own).tolist() == [0, 4 * 4, 9 * 4]  # the last event has a bin of its own width only


def test_stacked_histogram_bins_are_those_of_a_finer_cut():
    rng = np.random.default_rng(0)
    rows = sorted(zip(*(rng.integers(0, n, 500).tolist() for n in (103, 2, 2, 2)), strict=True))
    fine = frames({"name": "counts"}, rows, 3 * 7, 101)
    coarse = frames({"name": "stacked_histogram", "bins": 7, "clip": 255}, rows, 3, 101)
    np.testing.assert_array_equal(coarse.reshape(3, 2, 7, 2, 2), fine.reshape(3, 7, 2, 2, 2).swapaxes(1, 2))


def test_micro_bins_drop_the_remainder_of_the_events_span():
    rows = [(t, 0, 0, 0) for t in range(10, 21)]  # 11 events over 10 us: 4 bins of 2 us, and 3 events left
    own = frames({"name": "micro_bins", "bins": 4, "span": "events"}, rows)
    assert own[0, :, 0, 0, 0].tolist() == [2, 2, 2, 2]
    nominal = frames({"name": "micro_bins", "bins": 4}, rows)
    assert nominal[0, :, 0, 0, 0].tolist() == [11, 0, 0, 0]


def test_micro_bins_of_events_nearer_than_the_bins_are_many():
    own = frames({"name": "micro_bins", "bins": 4, "span": "events"}, [(10, 0, 0, 0), (12, 0, 0, 1)])
    assert np.argwhere(own).tolist() == [[0, 0, 0, 0, 0], [0, 2, 1, 0, 0]]


def test_sbn_steps_hold_equal_numbers_and_drop_none():
    rows = [(t, 0, 0, t % 2) for t in (1, 2, 3, 4, 5, 6, 90, 91, 92, 93, 94)]
    assert frames({"name": "sbn"}, rows, 4).sum((1, 2, 3)).tolist() == [2, 3, 3, 3]
    assert frames({"name": "sbt"}, rows, 4).sum((1, 2, 3)).tolist() == [6, 0, 0, 5]


def test_sbn_counts_the_events_of_the_window_alone():
    rows = [(0, 0, 0, 0)] * 50 + [(5, 1, 1, 1), (90, 1, 1, 1)] + [(101, 0, 0, 0)] * 50
    x = frames({"name": "sbn"}, rows, 2)
    assert x.sum() == 2 and x[:, 1, 1, 1].tolist() == [1, 1]


def test_signed_stacks_cancel_and_keep_their_sign():
    rows = [(1, 0, 0, 0), (2, 0, 0, 1), (3, 1, 0, 0), (4, 1, 0, 0), (5, 0, 1, 1), (6, 0, 1, 1)]
    assert frames({"name": "sbt", "polarity": "signed"}, rows).tolist() == [[[[0, -2], [2, 0]]]]
    assert frames({"name": "sbt", "polarity": "signed", "value": "binary"}, rows).tolist() == [[[[0, -1], [1, 0]]]]


def test_voxel_grid_splits_an_event_between_two_bins():
    rows = [(10, 0, 0, 0), (13, 1, 1, 1), (20, 0, 0, 0)]
    grid = frames({"name": "voxel_grid", "bins": 3}, rows)  # t* = 2 * 3 / 10
    np.testing.assert_allclose(grid[0, :, 1, 1], [0.4, 0.6, 0], rtol=1e-6)
    assert grid[0, :, 0, 0].tolist() == [-1, 0, -1]
    volume = frames({"name": "event_volume", "bins": 3}, rows)
    np.testing.assert_allclose(volume[0, :, 1, 1], [0, 0, 0, 0.4, 0.6, 0], rtol=1e-6)
    assert volume[0, :, 0, 0].tolist() == [1, 0, 1, 0, 0, 0]


def test_normalized_voxel_grid_leaves_cells_that_cancel_out_alone():
    rows = [(1, 0, 0, 1), (4, 1, 1, 1), (4, 1, 1, 0), (5, 0, 1, 0), (9, 0, 0, 1), (11, 0, 1, 1)]
    grid = frames({"name": "voxel_grid", "bins": 4, "normalize": True}, rows)
    assert (grid[0, :, 1, 1] == 0).all()
    values = grid[grid != 0].astype(float)
    np.testing.assert_allclose([values.mean(), values.std()], [0, 1], atol=1e-6)
    assert frames({"name": "voxel_grid", "normalize": True}, rows[:1])[0, 0, 0, 0] == 1  # no spread: left as it is


def test_time_surface_remembers_earlier_steps_and_as_much_history_as_asked():
    rows = [(-30, 1, 1, 1), (10, 0, 0, 0)]
    short = frames({"name": "time_surface", "tau_us": 50}, rows, 2)
    np.testing.assert_allclose(short[:, 0, 0, 0], np.exp([-40 / 50, -90 / 50]), rtol=1e-6)
    assert not short[:, 1].any()
    long = frames({"name": "time_surface", "tau_us": 50, "history_us": 31}, rows, 2)
    np.testing.assert_allclose(long[:, 1, 1, 1], np.exp([-80 / 50, -130 / 50]), rtol=1e-6)
    assert not frames({"name": "time_surface", "history_us": 30}, rows, 2)[:, 1].any()  # ]-30, 0]


def test_mixed_density_parts_halve_towards_the_first_or_the_last_event():
    rows = [(t, 0, 0, 1) for t in range(0 + 1, 98)]  # 97 events, d = 96
    first = frames({"name": "mixed_density", "bins": 4, "clip": 127}, rows)[0, :, 0, 0]
    assert first.tolist() == [12, 24, 48, 97]
    last = frames({"name": "mixed_density", "bins": 4, "clip": 127, "focus": "last"}, rows)[0, :, 0, 0]
    assert last.tolist() == [12, 24, 48, 97]
    rows = [(1, 0, 0, 1), (97, 1, 1, 1)]
    assert frames({"name": "mixed_density", "bins": 3}, rows)[0, 0, 0, 0] == 1
    assert frames({"name": "mixed_density", "bins": 3, "focus": "last"}, rows)[0, 0, 1, 1] == 1


def test_taf_keeps_the_latest_bins_that_are_not_empty():
    rows = [(t, 0, 0, 0) for t in (5, 45, 47, 71, 95)]
    taf = frames({"name": "taf", "depth": 3, "bin_us": 10}, rows)[0]

    def value(age):
        return round(255 * (1 - np.log1p(age / 10) / 8.7))

    # The bins ]90, 100], ]70, 80] and ]40, 50], whose events' mean is 46; the event at 5 fell out of the queue.
    assert taf[:3, 0, 0].tolist() == [value(5), value(29), value(54)]
    assert not taf[3:].any() and not taf[:, 1].any()


def test_taf_of_a_later_step_holds_the_same_bins_older():
    taf = frames({"name": "taf", "depth": 2, "bin_us": 10}, [(45, 0, 0, 1)], 2)
    assert taf[:, 2, 0, 0].tolist() == [round(255 * (1 - np.log1p(a) / 8.7)) for a in (0.5, 5.5)]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"name": "stacked_histogram", "bins": 0}, "stacked_histogram: bins = 0: give a whole number of at least 1"),
        ({"name": "stacked_histogram", "bins": 2.5}, "bins = 2.5: give a whole number"),
        ({"name": "stacked_histogram", "clip": 256}, "clip = 256 is outside 1..255"),
        ({"name": "stacked_histogram", "span": "event"}, "span = 'event', did you mean 'events'"),
        ({"name": "micro_bins", "bins": -1}, "micro_bins: bins = -1"),
        ({"name": "micro_bins", "span": "all"}, "There are window, events"),
        ({"name": "voxel_cube", "tbin": 0}, "voxel_cube: tbin = 0"),
        ({"name": "voxel_grid", "bins": True}, "voxel_grid: bins = True"),
        ({"name": "voxel_grid", "normalize": "no"}, "voxel_grid: normalize = 'no': give true or false"),
        ({"name": "event_volume", "bins": 0}, "event_volume: bins = 0"),
        ({"name": "sbt", "polarity": "sined"}, "sbt: polarity = 'sined', did you mean 'signed'"),
        ({"name": "sbn", "value": "mean"}, "sbn: value = 'mean'. There are sum, binary"),
        ({"name": "time_surface", "tau_us": 0}, "time_surface: tau_us = 0: give a number of at least 1"),
        ({"name": "time_surface", "history_us": -1}, "time_surface: history_us = -1"),
        ({"name": "mixed_density", "clip": 128}, "clip = 128 is outside 1..127, the range of int8"),
        ({"name": "mixed_density", "focus": "frist"}, "did you mean 'first'"),
        ({"name": "taf", "depth": 0}, "taf: depth = 0"),
        ({"name": "taf", "bin_us": float("nan")}, "taf: bin_us = nan"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named(options, what):
    with pytest.raises(ValueError, match=what):
        build_representation(options, 3)
