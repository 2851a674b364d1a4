"""Invalid events, beyond the sensor or without a polarity: dropped and counted alike in every format and type."""

import numpy as np
import pytest
from recording_files import WRITERS, assert_same, some_events, write_hdf5, write_npz, write_raw_dat

from data import Problems
from data.recordings import audit_events, open_dat, open_events

EVER = 1 << 60
SAVED = {"a.npz": np.savez, "packed.npz": np.savez_compressed, "a.h5": None}
EVERY_FILE = pytest.mark.parametrize("name", SAVED)


def save(path, **columns):
    """Columns in their own types, of a 304x240 sensor."""
    if path.suffix == ".npz":
        SAVED[path.name](path, height=240, width=304, **columns)
        return path
    write_hdf5(path, *some_events(1))
    import h5py

    with h5py.File(path, "r+") as file:
        for name, column in columns.items():
            del file[f"events/{name}"]
            file[f"events/{name}"] = column
    return path


def opened(path, **how):
    problems = Problems()
    return open_events(path, problems=problems, **how), problems


@EVERY_FILE
@pytest.mark.parametrize("axis", "xy")
@pytest.mark.parametrize(
    ("dtype", "odd"),
    [("i2", -1), ("i8", -(2**40)), ("i4", 40_000), ("u2", 33_014), ("u8", 2**64 - 1), ("f4", -3), ("f8", np.nan)]
    + [("f4", np.inf), ("f8", 12.5), ("i8", 2**16 + 5)],
)
def test_a_coordinate_beyond_the_sensor_drops_that_event(tmp_path, name, axis, dtype, odd):
    columns = dict(zip("txyp", some_events(), strict=True))
    columns[axis] = columns[axis].astype(dtype)
    columns[axis][700] = odd
    reader, problems = opened(save(tmp_path / name, **columns))
    assert (len(reader), reader.dropped) == (3000, 1)
    assert_same(reader.read(-1, EVER), [np.delete(c, 700) for c in columns.values()])
    (problem,) = problems.items
    assert problem.kind == "events outside the sensor" and f"event 700: {problem.kind}: " in str(problem)
    assert f"{axis}={columns[axis][700]}" in str(problem) and "1 of 3000 events" in str(problem)


@EVERY_FILE
@pytest.mark.parametrize("odd", [-1, 40_000])
def test_more_than_a_hundredth_of_them_are_an_error(tmp_path, name, odd):
    columns = dict(zip("txyp", some_events(), strict=True))
    columns["y"][700:731] = odd
    path = save(tmp_path / name, **columns)
    with pytest.raises(ValueError, match=rf"event 700: events outside the sensor: x=\d+, y={odd} on 304x240; 31 of"):
        open_events(path)
    columns["y"][730] = 0
    assert open_events(save(tmp_path / name, **columns)).dropped == 30


def test_without_a_sensor_no_coordinate_is_negative_or_beyond_any_sensor(tmp_path):
    t, x, y, p = some_events()
    x[5], x[6], y[7] = -1, 300, 65_535
    np.savez(tmp_path / "a.npz", t=t, x=x, y=y, p=p)
    reader = open_events(tmp_path / "a.npz")
    assert reader.sensor_size is None and reader.dropped == 2
    assert_same(reader.read(-1, EVER), [np.delete(c, (5, 7)) for c in (t, x, y, p)])


@pytest.mark.parametrize("dtype", ["u1", "i1", "f4", "f8", "?"])
def test_polarities_of_any_type(tmp_path, dtype):
    t, x, y, p = some_events()
    reader, problems = opened(save(tmp_path / "a.npz", t=t, x=x.astype("f4"), y=y.astype("f8"), p=p.astype(dtype)))
    assert not problems.items
    assert_same(reader.read(-1, EVER), (t, x, y, p))


@EVERY_FILE
@pytest.mark.parametrize(("dtype", "odd"), [("u1", 2), ("i1", -1), ("f4", np.nan), ("f8", 0.5)])
def test_one_unknown_polarity_drops_that_event(tmp_path, name, dtype, odd):
    t, x, y, p = some_events()
    p = p.astype(dtype)
    p[1500] = odd
    reader, problems = opened(save(tmp_path / name, t=t, x=x, y=y, p=p))
    assert problems.counts() == {"unknown polarity": 1} and f"event 1500: unknown polarity: p = {odd}" in str(
        problems.items[0]
    )
    assert_same(reader.read(-1, EVER), [np.delete(c, 1500) for c in (t, x, y, p)])
    assert audit_events(tmp_path / name, Problems()).on == np.count_nonzero(p == 1)


@EVERY_FILE
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.001, 0.999)])
def test_polarities_of_minus_one_name_what_to_save(tmp_path, name, shares):
    """Also where OFF is rare: dropping it would leave a recording without a kind of event."""
    t, x, y, _ = some_events()
    p = np.random.default_rng(0).choice([-1, 1], 3000, p=shares)
    p[0] = -1
    with pytest.raises(ValueError, match=r"event 0: unknown polarity: p = -1; \d+ of 3000 .* save \(p > 0\)"):
        open_events(save(tmp_path / name, t=t, x=x, y=y, p=p))


@pytest.mark.parametrize("name", ["a_td.dat", "a.npz", "a_td.dat.h5", "evt2.raw", "evt21.raw", "evt3.raw"])
def test_the_share_is_that_of_the_recording_in_every_format(tmp_path, name):
    """25 odd events of 3000 lie side by side: most of a window, but less than 1 % of the recording."""
    columns = some_events()
    columns[2][1000:1025] = 250
    (write_raw_dat if name == "a_td.dat" else WRITERS[name])(tmp_path / name, *columns)
    problems = Problems(collect=True)
    audit_events(tmp_path / name, problems)
    assert [(p.kind, p.fatal) for p in problems.items] == [("events outside the sensor", False)]
    reader = open_events(tmp_path / name)
    t = columns[0]
    inside = (t > t[990]) & (t <= t[1035]) & (columns[2] < 240)
    assert_same(reader.read(t[990], t[1035]), [c[inside] for c in columns])


def test_a_window_of_a_dat_does_not_hide_that_they_are_too_many(tmp_path):
    t, x, y, p = some_events()
    y[::20] = 250
    write_raw_dat(tmp_path / "a_td.dat", t, x, y, p)
    with pytest.raises(ValueError, match="events outside the sensor: .* on 304x240; 150 of 3000 events"):
        open_dat(tmp_path / "a_td.dat").read(t[1000], t[1400])


def test_times_in_floats_name_the_unit_to_save(tmp_path):
    t, x, y, p = some_events()
    write_npz(tmp_path / "a.npz", t / 1e6, x, y, p)
    with pytest.raises(ValueError, match=r"column 't' is float64. .*times in us: np.round\(t \* 1e6\)"):
        open_events(tmp_path / "a.npz")
    write_npz(tmp_path / "a.npz", t + 17 * 10**17, x, y, p)
    with pytest.raises(ValueError, match="t = 17.* us are more than 3000 years. .*t // 1000 where they are ns"):
        open_events(tmp_path / "a.npz")
