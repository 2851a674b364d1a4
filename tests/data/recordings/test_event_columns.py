"""Columns of events in `.npz` and HDF5 files: how they are found, and messages where they are not."""

import h5py
import numpy as np
import pytest
from recording_files import assert_same, some_events

from data import Problems, create_dataset
from data.recordings import audit_events, open_events
from data.recordings.boxes import BOX_DTYPE

EVER = 1 << 60
RECORD = np.dtype({"names": ["x", "y", "p", "t"], "formats": ["<u2", "<u2", "<i2", "<i8"]}, align=True)


def records(t, x, y, p):
    rows = np.zeros(len(t), RECORD)
    rows["t"], rows["x"], rows["y"], rows["p"] = t, x, y, p
    return rows


def rows(order, columns, dtype="i8"):
    """Events as an array [N, 4]."""
    return np.stack([columns["txyp".index(name)] for name in order], axis=1).astype(dtype)


def save(path, name, array, **how):
    if path.suffix == ".npz":
        np.savez(path, **{name: array})
        return path
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=array, **how)
    return path


@pytest.mark.parametrize("how", [{}, {"chunks": (500,), "compression": "gzip"}], ids=["plain", "gzip"])
def test_cd_events_of_prophesee(tmp_path, how):
    columns = some_events()
    path = save(tmp_path / "a.hdf5", "CD/events", records(*columns), **how)
    with h5py.File(path, "r+") as file:
        file.attrs["geometry"] = "304x240"
    problems = Problems()
    reader = open_events(path, problems=problems)
    assert reader.sensor_size == (240, 304) and not problems.items
    assert_same(reader.read(-1, EVER), columns)
    assert audit_events(path, Problems()).on == columns[3].sum()


def test_cd_events_as_a_dataset_of_gen1(tmp_path):
    columns = some_events()
    (tmp_path / "train").mkdir()
    save(tmp_path / "train/a_td.hdf5", "CD/events", records(*columns))
    np.save(tmp_path / "train/a_bbox.npy", np.array([(150_000, 10, 20, 50, 40, 0, 1, 1)], BOX_DTYPE))
    sample = create_dataset("gen1", "train", root=tmp_path, sensor=[240, 304], window_ms=100)[0]
    assert int(sample.x.sum()) == np.count_nonzero((columns[0] > 50_000) & (columns[0] <= 150_000))


@pytest.mark.parametrize("name", ["a.h5", "a.npz"])
@pytest.mark.parametrize("kind", [records, lambda *c: rows("txyp", c)], ids=["records", "rows"])
def test_one_array_of_all(tmp_path, name, kind):
    columns = some_events()
    reader = open_events(save(tmp_path / name, "events", kind(*columns)), problems=Problems())
    for t0, t1 in ((-1, EVER), (50_000, 60_000)):
        inside = (columns[0] > t0) & (columns[0] <= t1)
        assert_same(reader.read(t0, t1), [c[inside] for c in columns])


@pytest.mark.parametrize("dtype", ["i8", "u4", "f8"])
@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt"])
def test_the_order_of_four_columns_is_found_and_said(tmp_path, order, dtype):
    columns, problems = some_events(), Problems()
    path = save(tmp_path / "a.h5", "events", rows(order, columns, dtype))
    assert_same(open_events(path, problems=problems).read(-1, EVER), columns)
    assert [p.kind for p in problems.items] == ["events in one array"]
    assert f"read as {', '.join(order)}" in str(problems.items[0])


@pytest.mark.parametrize("order", ["typx", "pxyt", "xtyp"])
def test_an_order_that_is_not_known_is_refused(tmp_path, order):
    with pytest.raises(ValueError, match="its one array are in no known order .* Save t .us., x, y, p as four arrays"):
        open_events(save(tmp_path / "a.h5", "events", rows(order, some_events())))


def test_two_columns_that_may_be_the_times_are_refused(tmp_path):
    t, x, _, p = some_events()
    path = save(tmp_path / "a.h5", "events", rows("txyp", (t, x, t // 2000, p)))
    with pytest.raises(ValueError, match="can be read as t, x, y, p and as x, y, t, p. The first row of"):
        open_events(path)


def test_rows_with_times_in_seconds_name_the_unit(tmp_path):
    t, *rest = some_events()
    path = save(tmp_path / "a.h5", "events", rows("xytp", (1.5e9 + t / 1e6, *rest), "f8"))
    with pytest.raises(ValueError, match=r"no whole number of us. Save times in us .*\(t \* 1e6\).* seconds"):
        open_events(path)


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt"])
def test_odd_rows_are_dropped_like_those_of_other_files(tmp_path, order):
    t, x, y, p = some_events()
    x, y, p = x.astype("f8"), y.astype("f8"), p.astype("f8")
    x[5], y[6], x[7], p[8], p[9] = -1, np.nan, 0.5, 2, np.nan
    problems = Problems()
    reader = open_events(save(tmp_path / "a.h5", "events", rows(order, (t, x, y, p), "f8")), (240, 304), problems)
    assert_same(reader.read(-1, EVER), [np.delete(c, range(5, 10)) for c in (t, x, y, p)])
    assert set(problems.counts()) == {"events in one array", "events outside the sensor", "unknown polarity"}


@pytest.mark.parametrize("name", ["a.h5", "a.npz"])
def test_records_of_times_in_seconds_name_the_unit(tmp_path, name):
    array = np.zeros(50, [("x", "u2"), ("y", "u2"), ("t", "f8"), ("p", "i1")])
    with pytest.raises(ValueError, match=r"column 't' is float64. Save it as integers, times in us"):
        open_events(save(tmp_path / name, "events", array))


@pytest.mark.parametrize("p", [(-1, 1), (0, 2)])
def test_rows_with_other_polarities(tmp_path, p):
    t, x, y, on = some_events()
    path = save(tmp_path / "a.h5", "events", rows("txyp", (t, x, y, np.array(p)[on])))
    with pytest.raises(ValueError, match=r"save \(p > 0\)|in no known order"):
        open_events(path)


def test_a_missing_column_names_what_the_file_holds(tmp_path):
    t, x, y, p = some_events(50)
    np.savez(tmp_path / "a.npz", ts=t, xs=x, ys=y.astype("u2"), ps=p)
    with pytest.raises(ValueError) as error:
        open_events(tmp_path / "a.npz")
    assert "column 't' is missing. It holds 'ts' (int64, [50]), 'xs' (int64, [50]), 'ys' (uint16, [50])" in str(
        error.value
    )
    np.savez(tmp_path / "b.npz", t=t, x=x, meta=np.array({"camera": 1}, object))
    with pytest.raises(ValueError, match=r"column 'y' is missing. It holds 't' .*, 'x' .*, 'meta' \(object"):
        open_events(tmp_path / "b.npz")
    save(tmp_path / "c.h5", "davis/left/events", rows("xytp", (t, x, y, p)))
    with pytest.raises(ValueError, match="column 't' is missing. It holds group 'davis'"):
        open_events(tmp_path / "c.h5")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["events/ts"], file["events/x"], file["other"] = t, x, y
    with pytest.raises(ValueError, match=r"column 't' is missing. It holds 'ts' \(int64, \[50\]\), 'x' "):
        open_events(tmp_path / "d.h5")


def test_other_arrays_beside_the_columns_change_nothing(tmp_path):
    columns = some_events()
    more = {"meta": np.array({"camera": 1}, object), "frames": np.zeros((5, 4)), "time_unit": "us"}
    np.savez(tmp_path / "a.npz", **dict(zip("txyp", columns, strict=True)), **more)
    assert_same(open_events(tmp_path / "a.npz").read(-1, EVER), columns)


@pytest.mark.parametrize(("unit", "fits"), [("us", True), ("Microseconds", True), ("ns", False), ("s", False)])
def test_a_unit_that_the_file_names(tmp_path, unit, fits):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, column in zip("txyp", some_events(), strict=True):
            file[f"events/{name}"] = column
        file["events/t"].attrs["unit"] = unit
    if fits:
        assert len(open_events(tmp_path / "a.h5")) == 3000
        return
    with pytest.raises(ValueError, match=f"/events/t: its unit is '{unit}'. Save times as integers in us"):
        open_events(tmp_path / "a.h5")
