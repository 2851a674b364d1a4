"""Random recordings with jitter, and random damage: all formats against slow reference decoders."""

import tracemalloc
import warnings

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_files import WRITERS, assert_same, write_hdf5, write_raw_dat
from slow_decoders import slow_decode

from data import Problems
from data.recordings import audit_events, dat, open_events, read_boxes, write_boxes
from data.recordings.blocks import BlockReader
from data.recordings.boxes import BOX_DTYPE
from data.recordings.hdf5 import Hdf5Reader
from data.recordings.npz import NpzReader

EVER = 1 << 60


def write_old_dat(path, t, x, y, p):
    write_raw_dat(path, t, x, y, p, b"% Data file containing N9Chronocam7Event2dE events.\r\n% Version 2\r\n")


def write_blosc(path, t, x, y, p):
    blosc = pytest.importorskip("hdf5plugin", reason="need hdf5plugin").Blosc(cname="zstd")
    write_hdf5(path, t, x, y, p, chunks=(50,), maxshape=(None,), **blosc)


ALL = WRITERS | {"a_td.dat": write_raw_dat, "old_td.dat": write_old_dat, "blosc.h5": write_blosc}
EVERY_FORMAT = pytest.mark.parametrize("name", ALL)
SEEDS = st.integers(0, 2**32 - 1)


def fuzz(examples):
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """So that a few hundred events have many blocks, and a search among them has some steps."""
    with pytest.MonkeyPatch.context() as patch:
        for reader in (BlockReader, NpzReader, Hdf5Reader):
            patch.setattr(reader, "BLOCK", 64)
        patch.setattr(dat, "_MARKS", 6)
        patch.setattr(dat, "_MARGIN", 8)
        yield


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def random_events(rng, most=400, jitter=True):
    """Times with pauses, ties and up to ten events moved back; vectors of neighbours among them."""
    n = int(rng.integers(0, most))
    t = 2000 + np.cumsum(rng.choice([0, 0, 1, 7, 64, 300, 5000], n))
    x, y = rng.integers(0, 240, n), rng.integers(0, 3, n) * 100
    x = np.where(rng.random(n) < 0.5, np.arange(n) % 240, x)
    if n and jitter:
        at = rng.integers(0, n, rng.integers(0, 11))
        t[at] -= rng.integers(0, 1001, len(at))
    return t, x, y, rng.integers(0, 2, n)


def windows(rng, t, count=6):
    """Limits of windows at, and beside, times of events."""
    near = np.concatenate([t, t - 1, t + 1000, t - 1000, [-5, 0, 10**7]])
    return [sorted(rng.choice(near, 2).tolist()) for _ in range(count)] + [[-EVER, EVER]]


def fresh(path, content=None):
    path.unlink(missing_ok=True)  # HDF5 keeps what it knows of an open file by its inode
    if content is not None:
        path.write_bytes(content)
    return path


@EVERY_FORMAT
def test_windows_are_those_of_the_whole(folder, name):
    @fuzz(25)
    @given(SEEDS)
    def check(seed):
        rng = np.random.default_rng(seed)
        t, *rest = random_events(rng)
        path = fresh(folder / name)
        ALL[name](path, t, *rest)
        columns = np.maximum.accumulate(t), *rest
        reader = open_events(path)
        assert (reader.t_first, reader.t_last) == ((columns[0][0], columns[0][-1]) if len(t) else (0, 0))
        for t0, t1 in windows(rng, columns[0]):
            inside = (columns[0] > t0) & (columns[0] <= t1)
            assert_same(reader.read(t0, t1), [c[inside] for c in columns])
        edges = [-EVER, *sorted(rng.choice(np.concatenate([t, t + 1, [0]]), 20).tolist()), EVER]
        parts = [reader.read(a, b) for a, b in zip(edges, edges[1:], strict=False)]
        for k, column in zip("txyp", columns, strict=True):
            np.testing.assert_array_equal(np.concatenate([getattr(part, k) for part in parts]), column)
        moved = int((columns[0] != t).sum())
        assert reader.clamped >= moved if name.endswith(".dat") else reader.clamped == moved
        problems = Problems()
        audit_events(path, problems)
        repeated = len(t) - len(set(zip(*(c.tolist() for c in columns), strict=True)))
        wanted = {
            "times out of order": moved,
            "recording without events": not len(t),
            "events more than once": repeated,
        }
        assert [p.kind for p in problems.items] == [kind for kind, count in wanted.items() if count]
        if repeated:
            assert str(problems.items[-1].value).startswith(f"{repeated} of {len(t)} events")
        reader.close()

    check()


def damage(rng, content):
    """A copy cut off, with one to three bytes changed, or with some bytes put in or taken out."""
    at, how = int(rng.integers(0, len(content) or 1)), int(rng.integers(0, 6 if content else 2))
    if how == 0:
        return content[:at]
    if how == 1:
        return content[:at] + rng.bytes(int(rng.integers(1, 10))) + content[at:]
    if how == 2:
        return content[:at] + content[at + int(rng.integers(1, 10)) :]
    changed = bytearray(content)
    near = at + rng.integers(-12, 13, 3) if how == 3 else rng.integers(0, len(content), 3)  # some side by side
    for i in near[: rng.integers(1, 4)].clip(0, len(content) - 1).tolist():
        changed[i] ^= 1 << int(rng.integers(0, 8)) if how == 4 else int(rng.integers(1, 256))
    return bytes(changed)


@EVERY_FORMAT
def test_damage_ends_in_what_a_slow_decoder_reads_or_in_a_named_error(folder, name):
    path, bad = folder / name, folder / f"bad_{name}"

    @fuzz(80)
    @given(SEEDS)
    def check(seed):
        rng = np.random.default_rng(seed)
        columns = random_events(rng, jitter=bool(rng.random() < 0.3))
        ALL[name](fresh(path), *columns)
        fresh(bad, damage(rng, path.read_bytes()))
        problems = Problems(collect=True)
        audit_events(bad, problems)
        fatal = any(p.fatal for p in problems.items)
        try:
            reader = open_events(bad)
        except ValueError as error:
            assert str(error).startswith(f"{bad}: ") and fatal
            return
        is_dat = name.endswith(".dat")
        wanted = slow_decode(bad)
        assert wanted is not None or (is_dat and fatal)
        for t0, t1 in windows(rng, columns[0]):
            try:
                events = reader.read(t0, t1)
            except ValueError as error:
                assert str(error).startswith(f"{bad}: record ") and is_dat
                continue
            lengths = {len(getattr(events, k)) for k in "txyp"}
            assert len(lengths) == 1 and (np.diff(events.t) >= 0).all()
            assert not len(events) or t0 < events.t[0] <= events.t[-1] <= t1
            height, width = reader.sensor_size or (1 << 16, 1 << 16)
            assert (events.x < width).all() and (events.y < height).all() and (events.p < 2).all()
            if wanted is not None:
                t, rows = wanted
                usable = (rows >= 0) & (rows < (width, height, 2))
                inside = (t > t0) & (t <= t1) & usable.all(1)
                assert_same(events, (t[inside], *rows[inside].T))
        reader.close()

    check()


@pytest.mark.parametrize("name", ["a_td.dat", "old_td.dat"])
def test_damage_outside_a_window_of_a_dat_is_found_or_changes_nothing_in_it(folder, name):
    path = folder / name

    @fuzz(200)
    @given(SEEDS)
    def check(seed):
        rng = np.random.default_rng(seed)
        t, *rest = random_events(rng, jitter=False)
        if len(t) < 2:
            return
        ALL[name](path, t, *rest)
        content = bytearray(path.read_bytes())
        at = int(rng.integers(0, len(t)))
        for _ in range(int(rng.integers(1, 4))):  # bytes of one record
            content[len(content) - 8 * (len(t) - at) + int(rng.integers(0, 8))] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        reader, small = open_events(path), slow_decode(path) is not None
        for t0, t1 in windows(rng, t, 10):
            inside = (t > t0) & (t <= t1)
            if inside[at] or small:  # a record moved by less than jitter is none that is damaged
                continue
            try:
                events = reader.read(t0, t1)
            except ValueError as error:
                assert "record" in str(error)
                continue
            assert_same(events, [c[inside] for c in (t, *rest)])

    check()


def test_boxes(folder):
    """Labels are read as written; damaged ones end in boxes on the sensor or in a named error."""
    path = folder / "a_bbox.npy"

    @fuzz(150)
    @given(SEEDS)
    def check(seed):
        rng = np.random.default_rng(seed)
        boxes = np.zeros(rng.integers(0, 20), BOX_DTYPE)
        n = len(boxes)
        boxes["t"] = np.sort(rng.integers(0, 10**7, n))
        for start, size, limit in (("x", "w", 304), ("y", "h", 240)):
            boxes[start], boxes[size] = rng.integers(0, limit - 50, n), rng.integers(1, 50, n)
        boxes["class_id"], boxes["track_id"], boxes["class_confidence"] = rng.integers(0, 2, n), range(n), 0.5
        write_boxes(path, boxes, old=bool(seed % 2))
        np.testing.assert_array_equal(read_boxes(path, 304, 240, 2, Problems(strict=True)), boxes)
        path.write_bytes(damage(rng, path.read_bytes()))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of numpy, of headers written by Python 2
                read = read_boxes(path, 304, 240, 2, Problems())
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")
            return
        assert (np.diff(read["t"]) >= 0).all() and (read["t"] >= 0).all() and (read["class_id"] < 2).all()
        for start, size, limit in (("x", "w", 304), ("y", "h", 240)):
            assert (read[start] >= 0).all() and (read[size] > 0).all()
            assert (read[start].astype(float) + read[size] <= limit + 1e-3).all()

    check()


@pytest.mark.parametrize("name", ["a_td.dat", "a.bin", "a.npz", "a_td.dat.h5", "evt2.raw", "evt21.raw", "evt3.raw"])
def test_windows_over_a_long_recording_do_not_gather_memory(folder, name):
    n = 40_000
    t = np.arange(n) * 50
    ALL[name](folder / name, t, t % 240, t % 200, t % 2)
    reader = open_events(folder / name)
    held = []
    tracemalloc.start()
    try:
        for _ in range(3):
            tracemalloc.reset_peak()
            for t0 in range(0, 50 * n, 50_000):
                assert len(reader.read(t0, t0 + 10_000)) == 200
            held.append(tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()
    (_, _), (second, peak), (third, last_peak) = held
    assert third - second < 32_000 and last_peak - peak < 32_000  # 104 kB were read; the first round opens the file
    assert peak < 13 * n / 2  # events of 13 bytes: half of what the whole recording takes


def test_a_dataset_without_data_is_no_endless_recording(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        for k in "txyp":
            file.create_dataset(k, (1 << 50,), "i8" if k == "t" else "u1", chunks=(1 << 20,))
    with pytest.raises(ValueError, match="1125899906842624 events in a file of"):
        open_events(folder / "a.h5")
