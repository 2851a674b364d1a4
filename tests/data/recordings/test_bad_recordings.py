"""Bad recordings and labels, one class per kind: what is dropped, repaired and counted, and what is an error."""

import logging

import numpy as np
import pytest
from recording_files import ENDINGS, WRITERS, assert_same, some_events, write_raw_dat

from data import Problems
from data.recordings import audit_dat, audit_events, open_dat, open_events, read_boxes, write_dat
from data.recordings.boxes import BOX_DTYPE, OLD_BOX_DTYPE
from data.recordings.clock import JITTER_US

EVER = 1 << 60
RAW = [name for name in WRITERS if name.endswith(".raw")]
EVERY_FORMAT = pytest.mark.parametrize("name", WRITERS)


def recording(folder, name, columns):
    write = write_raw_dat if name.endswith(".dat") else WRITERS[name]  # `write_dat` refuses what is tested here
    write(folder / name, *columns)
    return folder / name


def audited(path, strict=False):
    problems = Problems(collect=True, strict=strict)
    audit_events(path, problems)
    return problems.items


def steady(n=3000, step=100):
    """Events at even steps of time, of one row: nothing else differs from record to record."""
    return np.arange(n) * step, np.arange(n) % 250, np.full(n, 7), np.arange(n) % 2


class TestTruncatedLastEvent:
    @pytest.mark.parametrize("name", ["a_td.dat", "a.bin", *RAW])
    def test_the_whole_ones_are_used(self, tmp_path, name, caplog):
        columns = steady()
        path = recording(tmp_path, name, columns)
        path.write_bytes(path.read_bytes()[:-1])
        with caplog.at_level(logging.WARNING):
            reader = open_events(path)
        assert len(caplog.records) == 1 and "truncated last" in caplog.text and "truncate -s -" in caplog.text
        assert (len(reader), reader.dropped) == (2999, 1)
        assert_same(reader.read(-1, EVER), [c[:-1] for c in columns])
        (problem,) = audited(path)
        assert not problem.fatal and problem.kind.startswith("truncated last")
        with pytest.raises(ValueError, match="truncated last"):
            audit_events(path, Problems(strict=True))

    def test_the_audit_and_a_caller_collect_it(self, tmp_path, caplog):
        path = recording(tmp_path, "a_td.dat", steady(10))
        path.write_bytes(path.read_bytes()[:-3])
        problems = Problems()
        with caplog.at_level(logging.WARNING):
            open_events(path, problems=problems)
        assert [str(p).startswith(f"{path}: record 9: truncated last record: 5 of 8 bytes") for p in problems.items]
        assert not caplog.records
        assert audit_dat(path, Problems())["events"] == 9

    @pytest.mark.parametrize("name", ["a.npz", "packed.npz", "a_td.dat.h5", "packed.h5"])
    def test_an_archive_is_not_readable_in_part(self, tmp_path, name):
        path = recording(tmp_path, name, steady())
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(ValueError, match=f"{name}: not a readable"):
            open_events(path)
        assert [p.fatal for p in audited(path)] == [True]


class TestNoHeader:
    def test_it_is_an_error(self, tmp_path):
        path = recording(tmp_path, "a_td.dat", steady())
        path.write_bytes(path.read_bytes().partition(b"304\n")[2])
        for read in (open_events, open_dat):
            with pytest.raises(ValueError, match="byte 0: no .dat header"):
                read(path)
        assert [p.fatal for p in audited(path)] == [True]

    def test_a_raw_file_without_an_encoding_is_no_dat(self, tmp_path):
        (tmp_path / "a.raw").write_bytes(b"% Date 2026-01-01 00:00:00\n% evt 3")
        with pytest.raises(ValueError, match="header: no line|truncated header"):
            open_events(tmp_path / "a.raw")


class TestSizeByteOrType:
    @pytest.mark.parametrize(
        ("pair", "says"), [((0x0C, 16), "wrong record size: 16"), ((0x0E, 8), "wrong event type: 0x0E")]
    )
    def test_it_is_an_error(self, tmp_path, pair, says):
        path = recording(tmp_path, "a_td.dat", steady())
        path.write_bytes(path.read_bytes().replace(b"304\n\x0c\x08", b"304\n" + bytes(pair)))
        with pytest.raises(ValueError, match=says):
            open_events(path)
        assert [p.fatal for p in audited(path)] == [True]


class TestTimeDecreasing:
    @EVERY_FORMAT
    def test_a_small_step_back_is_clamped_and_counted(self, tmp_path, name, caplog):
        t, x, y, p = steady()
        jittered = t.copy()
        jittered[1000] -= 64 * 15  # nine records back
        jittered[2000:2002] -= 128
        path = recording(tmp_path, name, (jittered, x, y, p))
        wanted = np.maximum.accumulate(jittered)
        with caplog.at_level(logging.WARNING):
            reader = open_events(path)
            assert_same(reader.read(-1, EVER), (wanted, x, y, p))
            assert reader.clamped == 2
            assert_same(reader.read(99_000, EVER), [c[wanted > 99_000] for c in (wanted, x, y, p)])
        assert len(caplog.records) == 1 and "event 1000" in caplog.text.replace("record", "event")
        (problem,) = audited(path)
        assert not problem.fatal and problem.kind == "times out of order" and "2 of 3000" in str(problem)

    @EVERY_FORMAT
    def test_a_large_step_back_is_an_error(self, tmp_path, name):
        t, x, y, p = steady()
        t[1500] -= JITTER_US + 200
        path = recording(tmp_path, name, (t, x, y, p))
        with pytest.raises(ValueError, match=r"(event|record) 1500: time runs backwards: 148800 us after 149900 us"):
            open_events(path).read(-1, EVER)
        (problem,) = audited(path)
        assert problem.fatal and "time runs backwards" in str(problem)

    @EVERY_FORMAT
    def test_many_small_ones_are_an_error(self, tmp_path, name):
        t, x, y, p = steady()
        t[100:1000:20] -= 200
        path = recording(tmp_path, name, (t, x, y, p))
        with pytest.raises(ValueError, match="times out of order: 45 of 3000"):
            open_events(path).read(-1, EVER)
        (problem,) = audited(path)
        assert problem.fatal

    @pytest.mark.parametrize("damage", [1, 2, 5])
    def test_a_damaged_time_elsewhere_misleads_no_search(self, tmp_path, damage):
        """Every window is either as it was or an error, whichever records are damaged."""
        n, errors = 3000, 0
        t, x, y, p = steady(n)
        for at in [*range(JITTER_US // 100, n - damage, 37), 1499, 1500]:
            for value in (3, 299_999, 5_000_000, 2**32 - 5):
                wrong = t.copy()
                wrong[at : at + damage] = value
                reader = open_dat(recording(tmp_path, "a_td.dat", (wrong, x, y, p)))
                for t0 in (0, 70_000, 149_950, 200_000, 290_000):
                    inside = (t > t0) & (t <= t0 + 5000)
                    if inside[at : at + damage].any():
                        continue
                    try:
                        assert_same(reader.read(t0, t0 + 5000), [c[inside] for c in (t, x, y, p)])
                    except ValueError as error:
                        assert "record" in str(error)
                        errors += 1
                reader.close()
        assert errors


class TestWrap:
    @pytest.mark.parametrize("seed", range(3))
    def test_it_is_unwrapped_with_jitter_across_it(self, tmp_path, seed):
        rng = np.random.default_rng(seed)
        n = 5000
        t = 2**32 - 250_000 + np.arange(n) * 100
        jittered = t - np.where(rng.random(n) < 0.005, rng.integers(0, 900, n), 0)
        jittered[2500:2504] = 2**32 + np.array([3, -5, 2, -900])
        columns = jittered, np.arange(n) % 300, np.zeros(n, int), np.zeros(n, int)
        path = recording(tmp_path, "a_td.dat", columns)
        wanted = np.maximum.accumulate(jittered)
        reader = open_dat(path)
        assert (reader.t_first, reader.t_last) == (wanted[0], wanted[-1])
        for t0, t1 in ((0, 1 << 40), (2**32 - 300, 2**32 + 300), (2**32, 2**32 + 1000), (2**32 - 1, 2**32)):
            inside = (wanted > t0) & (wanted <= t1)
            assert_same(reader.read(t0, t1), [c[inside] for c in (wanted, *columns[1:])])
        found = audit_dat(path, Problems())
        assert (found["wraps"], found["last_us"], found["backwards"]) == (1, wanted[-1], 0)
        assert found["clamped"] == (wanted != jittered).sum()

    def test_a_fall_of_less_than_half_the_range_is_none(self, tmp_path):
        t, x, y, p = steady()
        t = t + 2**31 + 5
        t[2000:] -= 2**31
        path = recording(tmp_path, "a_td.dat", (t, x, y, p))
        with pytest.raises(ValueError, match="record 2000: time runs backwards"):
            open_dat(path).read(0, EVER)
        assert [p.kind for p in audited(path)] == ["time runs backwards"]

    @pytest.mark.parametrize("value", [2**32 - 1000, 4 * 10**9])
    def test_one_record_far_ahead_is_no_wrap(self, tmp_path, value):
        t, x, y, p = steady()
        t[1500] = value
        path = recording(tmp_path, "a_td.dat", (t, x, y, p))
        with pytest.raises(ValueError, match="record 1500: unclear clock: it leaps"):
            open_dat(path).read(-1, EVER)
        assert [p.kind for p in audited(path)] == ["unclear clock"]


class TestOutsideTheSensor:
    @pytest.mark.parametrize("name", [n for n in WRITERS if n != "a.bin"])
    @pytest.mark.parametrize("bad", [30, 31])
    def test_dropped_and_counted_up_to_one_percent(self, tmp_path, name, bad):
        columns = steady()
        columns[2][700 : 700 + bad] = 250
        path = recording(tmp_path, name, columns)
        (problem,) = audited(path)
        assert problem.fatal == (bad > 30)
        if bad > 30:
            with pytest.raises(ValueError, match="events outside the sensor: x=200, y=250 on 304x240; 31 of 3000"):
                open_events(path).read(-1, EVER)
            return
        reader = open_events(path)
        assert_same(reader.read(-1, EVER), [np.delete(c, slice(700, 700 + bad)) for c in columns])
        assert (len(reader), reader.dropped) == (3000, bad)

    def test_a_bin_of_a_smaller_sensor(self, tmp_path):
        columns = steady()
        columns[1][:] %= 30
        columns[1][5] = 40
        reader = open_events(recording(tmp_path, "a.bin", columns), (34, 34))
        assert reader.dropped == 1 and len(reader.read(-1, EVER)) == 2999


class TestPolarity:
    def test_bit_28_alone_counts(self, tmp_path):
        t, x, y, p = steady(16)
        path = recording(tmp_path, "a_td.dat", (t, x, y, np.arange(16)))  # bits 28 to 31
        assert open_dat(path).read(-1, EVER).p.tolist() == [0, 1] * 8
        assert audit_dat(path, Problems(strict=True))["on"] == 8

    @pytest.mark.parametrize("name", ["a.npz", "packed.npz", "a_td.dat.h5"])
    def test_a_column_has_0_and_1_alone(self, tmp_path, name):
        t, x, y, p = steady(16)
        with pytest.raises(ValueError, match=r"event 2: unknown polarity: p = 2; 14 of 16 .* save \(p > 0\)"):
            open_events(recording(tmp_path, name, (t, x, y, np.arange(16))))


class TestEmpty:
    @EVERY_FORMAT
    def test_no_events_are_a_recording_of_none(self, tmp_path, name, caplog):
        path = recording(tmp_path, name, steady(0))
        with caplog.at_level(logging.WARNING):
            reader = open_events(path)
        assert len(caplog.records) == 1 and "recording without events" in caplog.text
        assert (len(reader), reader.t_first, reader.t_last, reader.clamped) == (0, 0, 0, 0)
        assert_same(reader.read(-EVER, EVER), steady(0))
        assert [(p.kind, p.fatal) for p in audited(path)] == [("recording without events", False)]

    @pytest.mark.parametrize("content", [b"", b"% Version 2\n", b"% Version 2\n\x0c", b"% Version 2\n\x0c\x08"])
    def test_a_dat_that_ends_early(self, tmp_path, content):
        path = tmp_path / "a_td.dat"
        path.write_bytes(content)
        for read in (open_events, open_dat):
            reader = read(path)
            assert (len(reader), reader.sensor_size, reader.t_last) == (0, (240, 304), 0)
            assert len(reader.read(-1, EVER)) == 0
        assert [(p.kind, p.fatal) for p in audited(path)] == [("recording without events", False)]
        assert audit_dat(path, Problems())["width"] == 304

    @pytest.mark.parametrize("ending", sorted(ENDINGS - {".dat", ".bin"} | {"", ".aedat4"}))
    def test_0_bytes_of_another_format(self, tmp_path, ending):
        path = tmp_path / f"a{ending}"
        path.touch()
        with pytest.raises(ValueError, match="no event recording: the file is empty, 0 bytes"):
            open_events(path)
        assert [p.fatal for p in audited(path)] == [True]


class TestEmptyLabels:
    @pytest.mark.parametrize("dtype", [BOX_DTYPE, OLD_BOX_DTYPE, float])
    def test_they_are_a_clip_without_objects(self, tmp_path, dtype):
        np.save(tmp_path / "a_bbox.npy", np.empty(0, dtype))
        assert len(read_boxes(tmp_path / "a_bbox.npy", 304, 240, 2, Problems(strict=True))) == 0

    def test_0_bytes_are_no_labels(self, tmp_path):
        (tmp_path / "a_bbox.npy").touch()
        with pytest.raises(ValueError, match="a_bbox.npy: not a label array"):
            read_boxes(tmp_path / "a_bbox.npy", 304, 240, 2, Problems())


class TestBadBoxes:
    @pytest.mark.parametrize(
        ("box", "kind"),
        [
            ((10, 10, 0, 20), "box without size"),
            ((10, 10, 20, -5), "box without size"),
            ((np.nan, 10, 20, 20), "box not finite"),
            ((10, 10, np.inf, 20), "box not finite"),
            ((304, 10, 20, 20), "box outside the sensor"),
            ((10, -30, 20, 20), "box outside the sensor"),
        ],
    )
    def test_they_are_dropped_and_counted(self, tmp_path, box, kind):
        path = tmp_path / "a_bbox.npy"
        np.save(path, np.array([(5, 1, 1, 9, 9, 0, 1, 1), (5, *box, 0, 2, 1)], BOX_DTYPE))
        problems = Problems()
        assert read_boxes(path, 304, 240, 2, problems)["track_id"].tolist() == [1]
        assert problems.counts() == {kind: 1}


@EVERY_FORMAT
def test_a_good_recording_has_no_problem(tmp_path, name):
    WRITERS[name](tmp_path / name, *some_events())
    assert audited(tmp_path / name) == []


def test_a_missing_file_is_missing(tmp_path):
    for name in ("a_td.dat", "a.raw"):
        with pytest.raises(FileNotFoundError):
            audit_events(tmp_path / name, Problems(collect=True))


def test_a_good_dat_is_written_as_a_careless_one(tmp_path):
    """The writer of these tests and the one of the project agree."""
    columns = some_events()
    write_raw_dat(tmp_path / "a.dat", *columns)
    write_dat(tmp_path / "b.dat", *columns, 304, 240)
    assert (tmp_path / "a.dat").read_bytes() == (tmp_path / "b.dat").read_bytes()
