"""Real recordings, where they are at hand: counts, first and last events, and every event against a plain loop."""

import os
from pathlib import Path

import numpy as np
import pytest

from data.events import open_events

SHARED = Path(os.environ.get("SPIKESIGHT_SHARED") or Path(__file__).parents[2].parent / "shared")
NCARS = "events_tonic_GPL3/test/test_data/sample_ncars.dat"
NMNIST = "events_tonic_GPL3/test/test_data/sample_nmnist.bin"
EVT2 = "events_faery_LGPL3/tests/data/evt2.raw"
EVT3 = "events_expelliarmus_GPL2/tests/sample-files/evt3_sample.raw"


def sample(name):
    path = SHARED / "samples" / name
    if not path.is_file():
        pytest.skip("no ../shared/samples")
    return path


def words(path, dtype):
    """What comes after the header of 166 bytes that both .raw files have."""
    content = path.read_bytes()[166:]
    return np.frombuffer(content, dtype).tolist()


@pytest.mark.parametrize(
    ("name", "count", "size", "first", "last"),
    [
        (NCARS, 2009, (240, 304), (0, 25, 8, 0), (99952, 75, 28, 1)),
        (NMNIST, 4325, (240, 304), (654, 7, 15, 1), (311175, 21, 14, 1)),
        (EVT2, 521252, (480, 640), (913716224, 35, 443, 1), (913812095, 12, 471, 0)),
        (EVT3, 219596, (720, 1280), (11718656, 874, 200, 0), (11727457, 1218, 572, 1)),
    ],
)
def test_a_real_recording(name, count, size, first, last):
    reader = open_events(sample(name))
    assert (len(reader), reader.sensor_size, reader.dropped) == (count, size, 0)
    events = reader.read(reader.t_first - 1, reader.t_last)
    rows = np.stack([events.t, events.x, events.y, events.p], axis=1)
    assert (tuple(rows[0]), tuple(rows[-1])) == (first, last)
    assert len(rows) == count and (np.diff(events.t) >= 0).all()
    t0, t1 = np.quantile(events.t, (0.4, 0.6)).astype(int).tolist()
    window = reader.read(t0, t1)
    inside = (events.t > t0) & (events.t <= t1)
    for k, column in enumerate((window.t, window.x, window.y, window.p)):
        np.testing.assert_array_equal(column, rows[inside, k])


def test_every_event_of_evt2():
    path = sample(EVT2)
    high, rows = 0, []
    for word in words(path, "<u4"):
        if word >> 28 == 8:
            high = word & 0xFFFFFFF
        elif word >> 28 < 2:
            rows.append((high << 6 | word >> 22 & 63, word >> 11 & 2047, word & 2047, word >> 28))
    assert_all(path, rows)


def test_every_event_of_evt3():
    path = sample(EVT3)
    high = low = y = base = polarity = 0
    rows = []
    for word in words(path, "<u2"):
        kind, value = word >> 12, word & 4095
        if kind == 8:
            high, low = value, low if value == high else 0
        elif kind == 6:
            low = value
        elif kind == 0:
            y = value & 2047
        elif kind == 2:
            rows.append((high << 12 | low, value & 2047, y, value >> 11))
        elif kind == 3:
            base, polarity = value & 2047, value >> 11
        else:
            size = {4: 12, 5: 8}[kind]
            rows += [(high << 12 | low, base + k, y, polarity) for k in range(size) if value >> k & 1]
            base += size
    assert_all(path, rows)


def assert_all(path, rows):
    events = open_events(path).read(-1, 1 << 60)
    np.testing.assert_array_equal(np.stack([events.t, events.x, events.y, events.p], axis=1), np.array(rows))
