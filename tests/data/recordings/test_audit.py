"""Tallies of audits in every format; their problems are in test_bad_recordings.py."""

import numpy as np
import pytest
from recording_files import WRITERS, some_events, write_raw_dat

from data import Problems
from data.recordings import Tally, audit, audit_events

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


@EVERY_FORMAT
def test_events_that_come_again_are_counted_and_kept(tmp_path, name, monkeypatch):
    """14 % of the events twice, those of the right columns, and one thrice; in pieces that cut through their times."""
    monkeypatch.setattr(audit, "_CHUNK", 64)
    t, x, y, p = some_events(3000, 30_000, width=240)
    x[:420] = 200 + x[:420] % 40
    again = np.concatenate([np.arange(3000), np.arange(420), [7]])
    again = again[np.argsort(t[again], kind="stable")]
    WRITERS[name](tmp_path / name, t, x, y, p)
    once = Problems()
    audit_events(tmp_path / name, once)
    pairs = len(t) - len(set(zip(t.tolist(), x.tolist(), y.tolist(), p.tolist(), strict=True)))
    assert once.counts() == ({"events more than once": 1} if pairs else {})
    WRITERS[name](tmp_path / name, *(column[again] for column in (t, x, y, p)))
    problems = Problems()
    tally = audit_events(tmp_path / name, problems)
    (problem,) = problems.items
    share = f"{100 * (421 + pairs) / 3421:.2g}"
    said = f"{421 + pairs} of 3421 events ({share} %) have the t, x, y and p of another one, nine in ten of them in "
    assert f"events more than once: {said}columns x = 20" in str(problem) and " to 23" in str(problem)
    assert tally.events == 3421


def test_a_few_events_that_are_equal_by_chance_are_not_worth_a_line(tmp_path):
    for count, said in ((100_000, 0), (99_000, 1)):
        t = np.arange(count)
        t[-1] = t[-2]
        WRITERS["a_td.dat"](tmp_path / "a.dat", t, *(0 * t for _ in range(3)))
        problems = Problems()
        audit_events(tmp_path / "a.dat", problems)
        assert problems.counts()["events more than once"] == said


@EVERY_FORMAT
def test_long_silences_are_known(tmp_path, name):
    t, *others = some_events(3000, 1000)
    t[1000:] += 50_000
    t[2999:] += 20_000
    WRITERS[name](tmp_path / name, t, *others)
    silences = ((int(t[999]), int(t[1000])), (int(t[2998]), int(t[2999])))
    assert audit_events(tmp_path / name, Problems(), silence_us=20_000).silences == silences
    assert audit_events(tmp_path / name, Problems(), silence_us=30_000).silences == silences[:1]
    assert audit_events(tmp_path / name, Problems()).silences == ()


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
