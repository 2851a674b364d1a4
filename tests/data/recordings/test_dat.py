"""`.dat` recordings: round trip, exact windows, and a message for every kind of bad file."""

import logging
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import Problems
from data.recordings import audit_dat, open_dat, write_dat


def some_events(n=5000, span=1_000_000, seed=0):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, span, n))
    return t, rng.integers(0, 304, n), rng.integers(0, 240, n), rng.integers(0, 2, n)


def raw_file(path, header=b"% Version 2\n", kind=0x0C, size=8, records=((0, 0),), tail=b""):
    body = np.array(records, "<u4").tobytes()
    path.write_bytes(header + bytes((kind, size)) + body + tail)
    return path


def test_round_trip(tmp_path):
    path = tmp_path / "a_td.dat"
    columns = some_events()
    write_dat(path, *columns, width=304, height=240)
    reader = open_dat(path)
    assert (len(reader), reader.width, reader.height) == (5000, 304, 240)
    assert (reader.t_first, reader.t_last) == (columns[0][0], columns[0][-1])
    events = reader.read(-1, reader.t_last)
    for name, dtype, column in zip("txyp", (np.int64, np.uint16, np.uint16, np.uint8), columns, strict=True):
        got = getattr(events, name)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, column)
    assert audit_dat(path, Problems()) == {
        "events": 5000,
        "width": 304,
        "height": 240,
        "first_us": columns[0][0],
        "last_us": columns[0][-1],
        "on": columns[3].sum(),
        "wraps": 0,
        "backwards": 0,
        "clamped": 0,
        "outside": 0,
    }


@settings(max_examples=60, deadline=None)
@given(
    times=st.lists(st.integers(0, 40), max_size=40), t0=st.integers(-5, 45), span=st.integers(0, 50), odd=st.booleans()
)
def test_a_window_is_open_below_and_closed_above(tmp_path_factory, times, t0, span, odd):
    times = np.sort(np.array(times, np.int64))
    header = b"% x\n" if odd else b"% xy\n"  # records begin at an even or an odd byte
    path = tmp_path_factory.mktemp("dat") / "a.dat"
    raw_file(path, header, records=np.stack([times, np.arange(len(times))], axis=1).reshape(-1, 2))
    events = open_dat(path).read(t0, t0 + span)
    inside = (times > t0) & (times <= t0 + span)
    np.testing.assert_array_equal(events.t, times[inside])
    np.testing.assert_array_equal(events.x, np.flatnonzero(inside))


def test_polarity_is_bit_28_alone_and_old_files_have_the_old_sensor(tmp_path):
    header = b"% Data file containing N9Chronocam7Event2dE events.\r\n% Version 2\r\n"
    address = 303 | 239 << 14
    path = raw_file(
        tmp_path / "a.dat", header, 0x00, records=[(5, address | 0b1110 << 28), (6, address | 0b0001 << 28)]
    )
    reader = open_dat(path)
    assert (reader.width, reader.height) == (304, 240)
    events = reader.read(0, 10)
    assert events.p.tolist() == [0, 1]
    assert events.x.tolist() == [303, 303] and events.y.tolist() == [239, 239]


def test_a_real_recording(shared):
    path = shared("samples/events_tonic_GPL3/test/test_data/sample_ncars.dat")
    reader = open_dat(path)
    raw = path.read_bytes()
    records = np.frombuffer(raw[-2009 * 8 :], "<u4").reshape(-1, 2)
    events = reader.read(-1, reader.t_last)
    assert (len(reader), reader.width, reader.height, reader.t_last) == (2009, 304, 240, 99952)
    np.testing.assert_array_equal(events.t, records[:, 0])
    np.testing.assert_array_equal(events.x, records[:, 1] % 2**14)
    np.testing.assert_array_equal(events.y, records[:, 1] // 2**14 % 2**14)
    assert events.p.sum() == 1350
    assert audit_dat(path, Problems(strict=True))["events"] == 2009


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x00\x08" + bytes(16), "byte 0: no .dat header"),
        (b"% Version 2\n% Wid", "byte 12: truncated header"),
        (b"% Version 2\n\x0e", "byte 12: wrong event type: 0x0E"),
        (b"% Version 2\n\x0e\x08" + bytes(8), "byte 12: wrong event type: 0x0E"),
        (b"% Version 2\n\x0c\x10" + bytes(16), "byte 13: wrong record size: 16"),
        (b"% Width 304\n\x0c\x08" + bytes(8), "header line 'height': bad sensor size: not given"),
        (b"% Width 0\n% Height 240\n\x0c\x08", "header line 'width': bad sensor size: 0"),
        (b"% Width wide\n% Height 240\n\x0c\x08", "header line 'width': bad sensor size: wide"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, says):
    path = tmp_path / "bad_td.dat"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        open_dat(path)
    assert str(error.value).startswith(f"{path}: {says}")
    problems = Problems(collect=True)
    audit_dat(path, problems)
    assert [str(p) for p in problems.items] == [str(error.value)] and problems.items[0].fatal


def test_the_clock_wraps(tmp_path):
    path = tmp_path / "long.dat"
    t = np.sort(np.random.default_rng(0).integers(0, 3 * 2**32, 4000))  # three hours and a half
    write_dat(path, t, *some_events(4000)[1:], width=304, height=240)
    reader = open_dat(path)
    assert (reader.t_first, reader.t_last) == (t[0], t[-1])
    for t0, t1 in ((-1, t[-1]), (2**32 - 10**8, 2**32 + 10**8), (2**33 + 5, 2**33 + 10**9), (2**32, 2**33)):
        np.testing.assert_array_equal(reader.read(t0, t1).t, t[(t > t0) & (t <= t1)])
    found = audit_dat(path, Problems(strict=True))
    assert (found["wraps"], found["first_us"], found["last_us"]) == (2, t[0], t[-1])


def test_time_running_backwards_is_fatal(tmp_path):
    times = [10_000, 20_000, 30_000, 25_000, 40_000, 35_000, 50_000]
    path = raw_file(tmp_path / "a.dat", records=[(t, 0) for t in times])
    with pytest.raises(ValueError, match="record 3: time runs backwards: 25000 us after 30000 us"):
        open_dat(path).read(0, 100_000)
    problems = Problems(collect=True)
    assert audit_dat(path, problems)["backwards"] == 2
    (problem,) = problems.items
    assert problem.fatal and "record 3" in str(problem) and "2 such records" in str(problem)


def test_backwards_across_chunks_is_found_at_its_record(tmp_path):
    t = np.arange(2**16 + 10)
    t[2**16 :] -= 7000  # the first record of the audit's second chunk
    path = raw_file(tmp_path / "a.dat", records=np.stack([t, np.zeros_like(t)], axis=1))
    problems = Problems(collect=True)
    audit_dat(path, problems)
    assert f"record {2**16}: time runs backwards: {2**16 - 7000} us after {2**16 - 1} us" in str(problems.items[0])


@pytest.mark.parametrize(("bad", "fatal"), [(1, False), (11, True)])
def test_events_outside_the_sensor(tmp_path, bad, fatal, caplog):
    records = [(t, 5 | 7 << 14) for t in range(200)]
    for i in range(bad):
        records[60 + i] = (60 + i, 304 | 7 << 14)
    path = raw_file(tmp_path / "a.dat", records=records)
    problems = Problems(collect=True)
    assert audit_dat(path, problems)["outside"] == bad
    assert [p.fatal for p in problems.items] == [fatal]
    assert "record 60" in str(problems.items[0]) and "x=304, y=7" in str(problems.items[0])

    reader = open_dat(path)
    if fatal:
        with pytest.raises(ValueError, match="11 of 200 events"):
            reader.read(-1, 200)
        return
    with caplog.at_level(logging.WARNING):
        assert len(reader.read(-1, 200)) == 200 - bad
        assert len(reader.read(-1, 200)) == 200 - bad
    assert reader.dropped == 2 * bad
    assert len(caplog.records) == 1  # said once


def test_a_pickled_reader_opens_its_own_map(tmp_path):
    path = tmp_path / "a.dat"
    write_dat(path, *some_events(), width=304, height=240)
    reader = open_dat(path)
    before = reader.read(100_000, 300_000)
    again = pickle.loads(pickle.dumps(reader))
    reader.close()
    for r in (again, reader):
        np.testing.assert_array_equal(r.read(100_000, 300_000).t, before.t)


def test_a_file_that_changed_is_not_read_at_the_wrong_place(tmp_path):
    path = tmp_path / "a.dat"
    write_dat(path, *some_events(), width=304, height=240)
    reader = open_dat(path)
    write_dat(path, *some_events(4000), width=304, height=240)
    with pytest.raises(ValueError, match="changed its size"):
        reader.read(0, 1000)


@pytest.mark.parametrize(
    ("column", "value", "says"), [(0, -1, "t = -1"), (1, 304, "x = 304"), (2, 240, "y = 240"), (3, 2, "p = 2")]
)
def test_writing_refuses_what_could_not_be_read(tmp_path, column, value, says):
    columns = some_events(10)
    columns[column][4] = value
    with pytest.raises(ValueError, match=f"record 4: {says}"):
        write_dat(tmp_path / "a.dat", *columns, width=304, height=240)
    t, *rest = some_events(10)
    with pytest.raises(ValueError, match="time runs backwards"):
        write_dat(tmp_path / "a.dat", t[::-1], *rest, width=304, height=240)
    with pytest.raises(ValueError, match="have 9, 10, 10, 10 entries"):
        write_dat(tmp_path / "a.dat", t[:9], *rest, width=304, height=240)


def test_a_window_mostly_outside_the_sensor_is_an_error(tmp_path):
    n = 1000
    x = np.arange(n) % 300
    write_dat(tmp_path / "a_td.dat", np.arange(n), x, x * 0, x * 0, 304, 240)
    raw = (tmp_path / "a_td.dat").read_bytes().replace(b"% Width 304", b"% Width 100")
    (tmp_path / "a_td.dat").write_bytes(raw)
    with pytest.raises(ValueError, match="record 100: events outside the sensor: x=100, y=0 on 100x240"):
        open_dat(tmp_path / "a_td.dat").read(-1, n)
