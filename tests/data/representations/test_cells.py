"""8-bit counts saturate correctly at 255, for arrays of any size."""

import numpy as np
import pytest

from data.recordings import Events
from data.representations.cells import cell_indices, count, signed_sum


@pytest.mark.parametrize("cells", [1, 7, 8, 64, 100, 1000, 4099])
@pytest.mark.parametrize("hot", [0, 1, 255, 256, 511, 512, 66_000])
@pytest.mark.parametrize("clip", [1, 10, 254, 255])
def test_equals_bincount(cells, hot, clip):
    rng = np.random.default_rng([cells, hot])
    cell = np.concatenate([rng.integers(0, cells, 600), np.full(hot, cells - 1), np.full(hot, cells // 2)])
    rng.shuffle(cell)
    counts = count(cell, cells, clip)
    assert counts.dtype == np.uint8
    np.testing.assert_array_equal(counts, np.minimum(np.bincount(cell, minlength=cells), clip))


def test_no_events_and_no_cells():
    none = np.zeros(0, np.intp)
    assert count(none, 0).shape == (0,) and count(none, 5).tolist() == [0] * 5
    assert signed_sum(none, none.astype(np.uint8), 3).tolist() == [0] * 3


def test_cells_of_slices_that_begin_and_end_within_the_events():
    x, y = np.arange(6, dtype=np.uint16), np.arange(6, dtype=np.uint16)[::-1]
    events = Events(np.arange(6), x, y, np.array([0, 1, 0, 1, 0, 1], np.uint8))
    cell = cell_indices(events, np.array([1, 3, 3, 5]), np.array([0, 5_000_000_000, 1000]), 100, 10)
    assert cell.tolist() == [100 + 41, 32, 1000 + 100 + 23, 1000 + 14]
    assert cell.dtype == np.intp
