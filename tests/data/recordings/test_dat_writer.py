"""Recordings written in chunks equal those written at once."""

import numpy as np
import pytest

from data.recordings import DatWriter, Events, open_dat, write_dat


def events(count=1000, start=0):
    rng = np.random.default_rng(count)
    t = np.sort(rng.integers(start, start + 10**6, count))
    return Events(
        t,
        rng.integers(0, 40, count).astype(np.uint16),
        rng.integers(0, 30, count).astype(np.uint16),
        rng.integers(0, 2, count).astype(np.uint8),
    )


def part(e, a, b):
    return Events(e.t[a:b], e.x[a:b], e.y[a:b], e.p[a:b])


@pytest.mark.parametrize("start", [0, (1 << 32) - 500_000])
def test_pieces_make_the_same_file(tmp_path, start):
    e = events(start=start)
    write_dat(tmp_path / "whole.dat", e.t, e.x, e.y, e.p, 40, 30)
    with DatWriter(tmp_path / "pieces.dat", 40, 30) as writer:
        for a, b in ((0, 1), (1, 1), (1, 600), (600, 1000)):
            writer.write(part(e, a, b))
    assert writer.events == 1000
    assert (tmp_path / "pieces.dat").read_bytes() == (tmp_path / "whole.dat").read_bytes()


def test_no_events_are_a_recording(tmp_path):
    with DatWriter(tmp_path / "none.dat", 40, 30):
        pass
    reader = open_dat(tmp_path / "none.dat")
    assert len(reader) == 0 and (reader.width, reader.height) == (40, 30)


def test_a_wrong_record_is_named(tmp_path):
    e = events()
    with DatWriter(tmp_path / "a.dat", 40, 30) as writer:
        writer.write(part(e, 0, 500))
        e.x[507] = 40
        with pytest.raises(ValueError, match=r"a\.dat: record 507: x = 40 is outside 0\.\.39"):
            writer.write(part(e, 500, 600))
        with pytest.raises(ValueError, match=r"record 500: time runs backwards: \d+ us after \d+ us"):
            writer.write(part(e, 0, 100))
