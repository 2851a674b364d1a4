"""HDF5 recordings: the layouts of RVT and DSEC, and missing filters."""

import h5py
import numpy as np
import pytest
from recording_files import some_events, write_hdf5

from data.recordings import open_events

EVER = 1 << 60


def assert_same(events, columns):
    for name, wanted in zip("txyp", columns, strict=True):
        np.testing.assert_array_equal(getattr(events, name), wanted, err_msg=name)


def test_layout_of_rvt(tmp_path):
    columns = some_events()
    write_hdf5(tmp_path / "a_td.dat.h5", *columns)
    reader = open_events(tmp_path / "a_td.dat.h5")
    assert reader.sensor_size == (240, 304)
    assert_same(reader.read(-1, EVER), columns)


def test_layout_of_dsec(tmp_path):
    t, x, y, p = some_events()
    path = tmp_path / "events.h5"
    write_hdf5(path, t, x, y, p, sensor=False, t_offset=np.int64(51_000_000_000))
    with h5py.File(path, "r+") as file:
        file["ms_to_idx"] = np.searchsorted(t, np.arange(200) * 1000)
    reader = open_events(path)
    assert reader.sensor_size is None
    assert open_events(path, (480, 640)).sensor_size == (480, 640)
    assert (reader.t_first, reader.t_last) == (t[0] + 51_000_000_000, t[-1] + 51_000_000_000)
    inside = (t > 1000) & (t <= 5000)
    events = reader.read(51_000_001_000, 51_000_005_000)
    assert_same(events, (t[inside] + 51_000_000_000, x[inside], y[inside], p[inside]))


def test_columns_at_the_top(tmp_path):
    columns = some_events()
    write_hdf5(tmp_path / "a.h5", *columns, group="")
    assert_same(open_events(tmp_path / "a.h5").read(-1, EVER), columns)


def test_blosc(tmp_path):
    hdf5plugin = pytest.importorskip("hdf5plugin", reason="need hdf5plugin")
    columns = some_events()
    write_hdf5(tmp_path / "a.h5", *columns, chunks=(500,), **hdf5plugin.Blosc(cname="zstd"))
    assert_same(open_events(tmp_path / "a.h5").read(-1, EVER), columns)


def packed_by(path, number, name="events/t"):
    """A recording whose dataset says it went through a filter that is nowhere; it holds no chunk, so it can be made."""
    write_hdf5(path, *some_events(10))
    with h5py.File(path, "r+") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((10,))
        properties.set_filter(number, h5py.h5z.FLAG_OPTIONAL)
        if name in file:
            del file[name]
        group, _, leaf = name.rpartition("/")
        space, kind = h5py.h5s.create_simple((10,)), h5py.h5t.NATIVE_INT64
        h5py.h5d.create(file.require_group(group).id, leaf.encode(), kind, space, properties)


def test_a_missing_filter_names_the_package(tmp_path):
    packed_by(tmp_path / "a.h5", 32099)
    with pytest.raises(ValueError) as error:
        open_events(tmp_path / "a.h5")
    assert str(error.value).startswith(f"{tmp_path / 'a.h5'}: dataset 'events/t' is packed by the HDF5 filter 32099")
    assert "Install the package hdf5plugin" in str(error.value)


def test_ecf_names_the_converter(tmp_path):
    packed_by(tmp_path / "a.hdf5", 0x8ECF, "CD/events")
    with pytest.raises(ValueError, match="packed by ECF.*Convert it with `metavision_file_to_dat -i a.hdf5`"):
        open_events(tmp_path / "a.hdf5")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f["events"].pop("t"), "column 't' is missing"),
        (lambda f: f["events"].pop("x"), "column 'x' is missing"),
        (
            lambda f: f["events/p"].write_direct(np.full(100, 3, "u1")),
            "event 0: unknown polarity: p = 3; 100 of 100 events",
        ),
        (lambda f: f.create_dataset("t_offset", data=1.5), "'/t_offset' is float64"),
        (lambda f: f.create_dataset("t_offset", data=1 << 62), "'t_offset' = 4611686018427387904 us is no time"),
        (lambda f: f["events/height"].write_direct(np.array(0)), r"sensor size: height, width = \(0, 304\)"),
    ],
)
def test_a_bad_file_is_named(tmp_path, change, says):
    path = tmp_path / "a.h5"
    write_hdf5(path, *some_events(100))
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=f"a.h5: {says}"):
        open_events(path)
