"""Clocks of few bits: gaps of any length are kept, and only a fall by nearly the range is a wrap."""

import numpy as np
import pytest
from recording_files import some_events, write_bin, write_evt2, write_evt3, write_evt21, write_raw_dat

from data.recordings import open_events
from data.recordings.clock import unwrap_clock

EVER = 1 << 60
CLOCKS = {
    "evt2.raw": (write_evt2, 2**34),
    "evt21.raw": (write_evt21, 2**34),
    "evt3.raw": (write_evt3, 2**24),
    "a.bin": (write_bin, 2**23),
    "a_td.dat": (write_raw_dat, 2**32),
}
EVERY_CLOCK = pytest.mark.parametrize("name", CLOCKS)


def recording(folder, name, t):
    """Events of the times `t` of a clock that never wraps; the file holds what is left of them."""
    write, span = CLOCKS[name]
    t = np.asarray(t)
    write(folder / name, t % span, t * 0 + 5, t * 0 + 7, t * 0 + 1)
    return folder / name


@EVERY_CLOCK
@pytest.mark.parametrize("silence", [0.3, 0.5, 0.501, 0.6, 0.8, 0.95, 0.99])
def test_silence_of_most_of_the_range(tmp_path, name, silence):
    span = CLOCKS[name][1]
    t = np.arange(20) * 1000
    t[10:] += int(silence * span)
    reader = open_events(recording(tmp_path, name, t))
    np.testing.assert_array_equal(reader.read(-1, EVER).t, t)
    assert (reader.t_first, reader.t_last) == (t[0], t[-1])
    np.testing.assert_array_equal(reader.read(t[10] - 1, EVER).t, t[10:])


@EVERY_CLOCK
@pytest.mark.parametrize("silence", [0, 0.1, 0.2])
def test_a_fall_by_nearly_the_range_is_a_wrap(tmp_path, name, silence):
    span = CLOCKS[name][1]
    t = span - 10_500 + np.arange(20) * 1000
    t[11:] += int(silence * span)
    np.testing.assert_array_equal(open_events(recording(tmp_path, name, t)).read(-1, EVER).t, t)


@EVERY_CLOCK
@pytest.mark.parametrize("fall", [0.1, 0.4, 0.5, 0.6, 0.7])
def test_a_fall_by_less_is_time_that_runs_backwards(tmp_path, name, fall):
    span = CLOCKS[name][1]
    t = int(0.8 * span) + np.arange(20) * 1000
    t[10:] -= int(fall * span)
    with pytest.raises(ValueError, match="(event|record) 10: time runs backwards"):
        open_events(recording(tmp_path, name, t)).read(-1, EVER)


@pytest.mark.parametrize("name", ["evt2.raw", "evt21.raw", "evt3.raw"])
def test_silence_and_wraps_in_a_long_recording(tmp_path, name):
    write, span = CLOCKS[name]
    t, x, y, p = some_events(2000, span=span // 10)
    for at, silence in ((300, 0.9), (700, 0.55), (1100, 0.2), (1500, 0.98)):
        t[at:] += int(silence * span)
    # Without time words no reader knows of a whole turn: those between keep the clock going.
    ticks = np.arange(0, t[-1], span // 8)
    order = np.argsort(np.concatenate([t, ticks]), kind="stable")
    columns = [np.concatenate([c, ticks * 0])[order] for c in (x, y, p)]
    times = np.concatenate([t, ticks])[order]
    write(tmp_path / name, times, *columns)
    np.testing.assert_array_equal(open_events(tmp_path / name).read(-1, EVER).t, times)


def test_one_damaged_value_is_no_wrap():
    """It leaps by most of the range and falls back at once; so it does at the end of a block."""
    raw, cut = np.array([5, 6, 4000, 7, 8]), 3
    for pieces in ([raw], [raw[:cut], raw[cut:]]):
        state, values = (-1, 0), []
        for piece in pieces:
            times, state = unwrap_clock(piece, state, 4096, 1)
            values += times.tolist()
        assert values == [5, 6, 4000, 7, 8]  # which a reader refuses: time runs backwards


def test_jitter_across_a_wrap():
    raw = np.array([4094, 4095, 0, 4095, 0, 1])
    for cut in range(len(raw) + 1):
        first, state = unwrap_clock(raw[:cut], (-1, 0), 4096, 1)
        rest, _ = unwrap_clock(raw[cut:], state, 4096, 1)
        assert [*first, *rest] == [4094, 4095, 4096, 4095, 4096, 4097]
    assert unwrap_clock(np.array([0, 4095]), (-1, 0), 4096, 1)[0].tolist() == [0, 4095]  # before a wrap it is silence
