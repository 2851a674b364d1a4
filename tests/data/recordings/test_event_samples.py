"""Real recordings, where available: counts, first and last events, and every event against slow decoders."""

import numpy as np
import pytest
from slow_decoders import slow_decode

from data.recordings import open_events

NCARS = "samples/events_tonic_GPL3/test/test_data/sample_ncars.dat"
NMNIST = "samples/events_tonic_GPL3/test/test_data/sample_nmnist.bin"
EVT2 = "samples/events_faery_LGPL3/tests/data/evt2.raw"
EVT3 = "samples/events_expelliarmus_GPL2/tests/sample-files/evt3_sample.raw"


@pytest.mark.parametrize(
    ("name", "count", "size", "first", "last"),
    [
        (NCARS, 2009, (240, 304), (0, 25, 8, 0), (99952, 75, 28, 1)),
        (NMNIST, 4325, (240, 304), (654, 7, 15, 1), (311175, 21, 14, 1)),
        (EVT2, 521252, (480, 640), (913716224, 35, 443, 1), (913812095, 12, 471, 0)),
        (EVT3, 219596, (720, 1280), (11718656, 874, 200, 0), (11727457, 1218, 572, 1)),
    ],
)
def test_a_real_recording(shared, name, count, size, first, last):
    reader = open_events(shared(name))
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


@pytest.mark.parametrize("name", [NCARS, NMNIST, EVT2, EVT3])
def test_every_event_is_that_of_a_decoder_of_single_records(shared, name):
    path = shared(name)
    times, places = slow_decode(path)
    events = open_events(path).read(-1, 1 << 60)
    np.testing.assert_array_equal(events.t, times)
    np.testing.assert_array_equal(np.stack([events.x, events.y, events.p], axis=1), places)
