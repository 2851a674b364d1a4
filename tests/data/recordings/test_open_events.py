"""`open_events`: round trip and any window in every format, and messages for bad files."""

import os
import pickle
from multiprocessing import get_context

import numpy as np
import pytest
from recording_files import WRITERS, some_events, write_bin, write_evt2, write_evt3, write_evt21, write_npz

from data.recordings import EventReader, open_events
from data.recordings.blocks import BlockReader
from data.recordings.hdf5 import Hdf5Reader
from data.recordings.npz import NpzReader

EVER = 1 << 60
EVERY_FORMAT = pytest.mark.parametrize("name", WRITERS)
# .dat has a search and a writer of its own, tested in test_dat.py
ALL_BUT_DAT = pytest.mark.parametrize("name", [name for name in WRITERS if name != "a_td.dat"])


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """So that a recording of some thousand events has many blocks."""
    with pytest.MonkeyPatch.context() as patch:
        for reader in (BlockReader, NpzReader, Hdf5Reader):
            patch.setattr(reader, "BLOCK", 256)
        yield


def columns_of(events):
    return [events.t, events.x, events.y, events.p]


def assert_same(events, columns):
    for name, got, wanted in zip("txyp", columns_of(events), columns, strict=True):
        np.testing.assert_array_equal(got, wanted, err_msg=name)


def recording(folder, name, columns=None):
    columns = some_events() if columns is None else columns
    (folder / name).unlink(missing_ok=True)  # HDF5 does not write over a file that is still open
    WRITERS[name](folder / name, *columns)
    return folder / name, columns


@EVERY_FORMAT
def test_round_trip(tmp_path, name):
    path, columns = recording(tmp_path, name)
    reader = open_events(str(path))
    assert isinstance(reader, EventReader)
    assert (len(reader), reader.sensor_size, reader.dropped) == (3000, (240, 304), 0)
    assert (reader.t_first, reader.t_last) == (columns[0][0], columns[0][-1])
    events = reader.read(-1, EVER)
    assert [c.dtype for c in columns_of(events)] == [np.int64, np.uint16, np.uint16, np.uint8]
    assert_same(events, columns)


@EVERY_FORMAT
def test_any_window_is_open_below_and_closed_above(tmp_path, name):
    rng = np.random.default_rng(1)
    for span in (200_000, 40):  # the second: many events of one time, over more than a block
        path, columns = recording(tmp_path, name, some_events(span=span))
        reader = open_events(path)
        t = columns[0]
        for _ in range(40):
            a, b = sorted(rng.choice(np.concatenate([t[:50], t[-50:], rng.integers(-5, span + 5, 200)]), 2).tolist())
            inside = (t > a) & (t <= b)
            assert_same(reader.read(a, b), [c[inside] for c in columns])
        assert len(reader.read(100, 5)) == 0


@EVERY_FORMAT
@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_events(tmp_path, name, n):
    path, columns = recording(tmp_path, name, some_events(n))
    reader = open_events(path)
    wanted = int(columns[0][0]) if n else 0
    assert (len(reader), reader.t_first, reader.t_last) == (n, wanted, wanted)
    assert_same(reader.read(-1, EVER), columns)


@ALL_BUT_DAT
def test_a_window_decodes_only_the_blocks_it_touches(tmp_path, name):
    path, columns = recording(tmp_path, name)
    reader = open_events(path)
    assert isinstance(reader, BlockReader)
    asked = []
    decode = reader._decode
    reader._decode = lambda start, stop, state: asked.append(stop - start) or decode(start, stop, state)
    t = columns[0]
    assert len(reader.read(int(t[1500]) - 1, int(t[1510]))) >= 11
    assert asked and asked[0] <= 3 * reader.BLOCK


def _total(reader):
    return int(reader.read(1000, 150_000).t.sum())


@EVERY_FORMAT
def test_a_reader_goes_to_another_process(tmp_path, name):
    path, _ = recording(tmp_path, name)
    reader = open_events(path)
    wanted = _total(reader)
    again = pickle.loads(pickle.dumps(reader))
    assert len(pickle.dumps(reader)) < path.stat().st_size  # no events in it
    reader.close()
    assert _total(again) == _total(reader) == wanted
    with get_context("fork").Pool(1) as pool:
        assert pool.apply(_total, (reader,)) == wanted


def test_a_forked_process_opens_its_own_handle(tmp_path, monkeypatch):
    path, _ = recording(tmp_path, "packed.h5")
    reader = open_events(path)
    before = reader._source
    assert reader._source is before
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert reader._source is not before


@EVERY_FORMAT
def test_a_file_that_changed_is_not_read_at_the_wrong_place(tmp_path, name):
    path, _ = recording(tmp_path, name)
    reader = open_events(path)
    reader.close()
    recording(tmp_path, name, some_events(2000))
    with pytest.raises(ValueError, match="changed its size"):
        reader.read(0, 1000)


@ALL_BUT_DAT
def test_time_running_backwards_is_named(tmp_path, name):
    t, x, y, p = some_events()
    t = np.arange(len(t)) * 64
    t[1000] = t[900]
    path, _ = recording(tmp_path, name, (t, x, y, p))
    with pytest.raises(ValueError, match=f"event 1000: time runs backwards: {t[900]} us after {t[999]} us"):
        open_events(path)


@pytest.mark.parametrize("bad", [1, 40])
@pytest.mark.parametrize("name", [n for n in WRITERS if not n.startswith("a_td.dat") and n != "a.bin"])
def test_events_outside_the_sensor_are_dropped_and_counted(tmp_path, name, bad):
    columns = some_events()
    columns[2][700 : 700 + bad] = 250
    path, _ = recording(tmp_path, name, columns)
    if bad > 30:
        with pytest.raises(
            ValueError, match=r"event 700: events outside the sensor: x=\d+, y=250 on 304x240; 40 of 3000"
        ):
            open_events(path)
        return
    reader = open_events(path)
    assert (len(reader), reader.dropped) == (3000, bad)
    assert_same(reader.read(-1, EVER), [np.delete(c, slice(700, 700 + bad)) for c in columns])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no event recording: the file is empty, 0 bytes"),
        (b"t,x,y,p\n", "byte 0: no event recording: starts with b't,x,y,p"),
        (b"% evt 4.0\n" + bytes(8), "header: unknown encoding: '4.0'"),
        (b"% format HISTO3D;height=320;width=320\n" + bytes(8), "header: unknown encoding: 'HISTO3D'"),
        (b"% evt 2.0\n% geometry 640xhigh\n", "header: bad sensor size: '640' x 'high'"),
        (b"% evt 2.0\n% geometry 0x480\n", "sensor size: height, width = (480, 0)"),
        (b"% Date 2026-01-01\n", "header: no line '% evt' or '% format' names an encoding"),
        (b"% evt 3.0\n% wid", "byte 10: truncated header"),
        (b"% evt 3.0\n" + b"\x00\x10" * 50, "words without meaning: 50 of 50 words have no known type"),
        (b"% evt 2.0\n" + bytes(80), "words without meaning: 20 of 20 words of events have no time"),
        (b"% evt 2.1\n" + b"\x30" * 80, "header: the words fit neither order"),
        (b"PK\x03\x04" + bytes(50), "not a readable .npz"),
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "not a readable HDF5 recording"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, says):
    path = tmp_path / "a.raw"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        open_events(path)
    assert str(error.value).startswith(f"{path}: {says}")


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_events(tmp_path / "none.raw")


def test_the_format_is_found_by_content_before_the_name(tmp_path):
    for name in ("evt3.raw", "a_td.dat", "a.npz", "packed.h5"):
        path, columns = recording(tmp_path, name)
        assert_same(open_events(path.rename(tmp_path / "other.bin")).read(-1, EVER), columns)
    write_bin(tmp_path / "b.bin", [70000], [0x25], [0x20], [0])  # begins with "% "
    assert open_events(tmp_path / "b.bin").read(0, EVER).x.tolist() == [0x25]


def test_the_caller_names_a_sensor_only_where_the_file_does_not(tmp_path):
    path, _ = recording(tmp_path, "a.bin", some_events(width=34, height=34))
    assert open_events(path, (34, 34)).sensor_size == (34, 34)
    with pytest.raises(ValueError, match="events outside the sensor: .* on 10x10"):
        open_events(path, (10, 10))
    for name in ("a_td.dat", "a.npz", "evt2.raw"):
        path, _ = recording(tmp_path, name)
        with pytest.raises(ValueError, match=r"the file names \(height, width\) \(240, 304\), not \(10, 10\)"):
            open_events(path, (10, 10))


def test_marks_of_the_clock_in_a_bin(tmp_path):
    columns = some_events()
    write_bin(tmp_path / "a.bin", *columns, marks=True)
    reader = open_events(tmp_path / "a.bin")
    assert len(reader) == 3000
    assert_same(reader.read(-1, EVER), columns)
    assert_same(reader.read(100_000, EVER), [c[columns[0] > 100_000] for c in columns])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"t": np.zeros(5)}, "column 't' is float64. Save it as integers, times in us"),
        ({"t": np.zeros((5, 1), int)}, r"column 't' has the shape \(5, 1\)"),
        ({"t": np.zeros(4, int)}, r"columns t, x, y, p have \[4, 5, 5, 5\] entries"),
        ({"height": 0.5}, "'height' is float64"),
        ({"t": np.array([None] * 5)}, "holds Python objects|Object arrays cannot be loaded"),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_bad_npz_is_named(tmp_path, save, change, says):
    write_npz(tmp_path / "a.npz", save=save, **({"t": np.arange(5)} | dict.fromkeys("xyp", [0] * 5) | change))
    with pytest.raises(ValueError, match=f"a.npz: .*({says})"):
        open_events(tmp_path / "a.npz")


def test_values_of_an_npz_that_do_not_fit_are_named(tmp_path):
    columns = dict.fromkeys("xyp", np.zeros(500, int)) | {"t": np.arange(500)}
    columns["t"][300] = 17 * 10**17  # an epoch in ns
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(ValueError, match="a.npz: event 300: t = 1700000000000000000 us are more than 3000 years"):
        open_events(tmp_path / "a.npz")
    write_npz(tmp_path / "a.npz", [-5, 3], [0, 1], [0, 1], np.array([False, True]))
    assert open_events(tmp_path / "a.npz").read(-6, 3).t.tolist() == [-5, 3]


@pytest.mark.parametrize(("write", "wrap"), [(write_evt2, 2**34), (write_evt21, 2**34), (write_evt3, 2**24)])
def test_the_clock_wraps(tmp_path, write, wrap):
    t, x, y, p = some_events()
    t = t + 2 * wrap - 100_000  # wraps in the middle; the recording's clock starts within its first round
    for at in range(1500, 3000, 300):  # once right across the wrap
        t[at:] += wrap // 5
    write(tmp_path / "a.raw", t, x, y, p)
    reader = open_events(tmp_path / "a.raw")
    t -= wrap
    assert_same(reader.read(-1, EVER), (t, x, y, p))
    late = t > t[2600]
    assert_same(reader.read(t[2600], EVER), [c[late] for c in (t, x, y, p)])


@pytest.mark.parametrize("order", ["little", "legacy"])
def test_the_order_of_the_halves_of_evt21_is_found(tmp_path, order):
    columns = some_events()
    write_evt21(tmp_path / "a.raw", *columns, order)
    named = (tmp_path / "a.raw").read_bytes()
    (tmp_path / "a.raw").write_bytes(named.replace(b";endianness=" + order.encode(), b""))
    assert_same(open_events(tmp_path / "a.raw").read(-1, EVER), columns)


@pytest.mark.parametrize("write", [write_evt3, write_evt21])
def test_vectors(tmp_path, write):
    """A row of 250 pixels with holes, at one time: 21 vectors of 12, or 8 groups of 32, and far fewer words."""
    x = np.flatnonzero(np.random.default_rng(0).random(250) < 0.7)
    columns = np.repeat([5, 9000], len(x)), np.tile(x, 2), np.repeat([3, 4], len(x)), np.repeat([1, 0], len(x))
    write(tmp_path / "a.raw", *columns)
    assert (tmp_path / "a.raw").stat().st_size < 250
    assert_same(open_events(tmp_path / "a.raw").read(-1, EVER), columns)


def test_words_before_the_first_time_are_dropped_and_counted(tmp_path):
    columns = some_events()
    for write, size in ((write_evt2, 4), (write_evt21, 8), (write_evt3, 2)):
        write(tmp_path / "a.raw", *columns)
        header, _, words = (tmp_path / "a.raw").read_bytes().partition(b"% end\n")
        early = {2: 0x2000, 4: 1 << 28, 8: 1 << 60 | 1}[size].to_bytes(size, "little")
        (tmp_path / "a.raw").write_bytes(header + b"% end\n" + 3 * early + words)
        reader = open_events(tmp_path / "a.raw")
        assert (len(reader), reader.dropped) == (3000, 3)
        assert_same(reader.read(-1, EVER), columns)
