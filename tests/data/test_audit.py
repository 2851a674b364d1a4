"""What an audit says a recording holds, in every format; its problems are in test_bad_recordings.py."""

import numpy as np
import pytest
from recordings import WRITERS, some_events, write_raw_dat

from data import Problems
from data.events import Tally, audit_events

EVERY_FORMAT = pytest.mark.parametrize("name", list(WRITERS))


@EVERY_FORMAT
def test_events_are_counted(tmp_path, name):
    t, x, y, p = some_events()
    WRITERS[name](tmp_path / name, t + 7, x, y, p)
    tally = audit_events(tmp_path / name, Problems(strict=True))
    assert tally == Tally(events=3000, first_us=t[0] + 7, last_us=t[-1] + 7, on=p.sum())
    assert tally.seconds == (t[-1] - t[0]) / 1e6 and 0 < tally.on < 3000


@EVERY_FORMAT
def test_a_recording_without_events_has_none(tmp_path, name):
    WRITERS[name](tmp_path / name, *some_events(0))
    assert audit_events(tmp_path / name, Problems()) == Tally(0, 0, 0, 0)


@pytest.mark.parametrize("name", ["a_td.dat", "a.npz"])
def test_a_recording_that_stops_a_training_is_not_counted(tmp_path, name):
    t, *others = some_events()
    t[-1] = 5  # runs backwards
    (write_raw_dat if name == "a_td.dat" else WRITERS[name])(tmp_path / name, t, *others)
    problems = Problems(collect=True)
    assert audit_events(tmp_path / name, problems) is None and [p.fatal for p in problems.items] == [True]


def test_the_clock_of_a_dat_may_wrap(tmp_path):
    t = np.array([2**32 - 1000, 2**32 + 1000])
    WRITERS["a_td.dat"](tmp_path / "a_td.dat", t, 0 * t, 0 * t, 0 * t)
    assert audit_events(tmp_path / "a_td.dat", Problems(strict=True)).seconds == 0.002
