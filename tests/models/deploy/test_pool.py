"""Max pooling of spikes and currents by what has accumulated."""

import torch
import torch.nn.functional as F

from models.deploy.pool import AccumulatedMaxPool, GatedMaxPool
from neurons import Stream

WINDOW = {"kernel_size": 2, "stride": 2}


def test_gated_pool_of_the_golden_file(golden):
    z = golden("conv_coding_pool")
    y = GatedMaxPool(WINDOW)(z["pool_in"].view(32, 1, 1, 4, 4))
    assert torch.equal(y.view(32, 2, 2), z["pool_out"])


def test_gated_pool_step_by_step_in_plain_python():
    """Signed spikes, overlapping windows, borders: the largest count including this step, the first of equal ones."""
    torch.manual_seed(0)
    x = torch.randint(-1, 2, (12, 2, 3, 5, 7)).float()
    window = {"kernel_size": 3, "stride": 2, "padding": 1}
    y = GatedMaxPool(window)(x)
    counts = torch.zeros_like(x[0])
    for t in range(12):
        counts = counts + x[t]
        for i in range(y.shape[3]):
            for j in range(y.shape[4]):
                rows, columns = range(max(0, 2 * i - 1), min(5, 2 * i + 2)), range(max(0, 2 * j - 1), min(7, 2 * j + 2))
                cells = [(r, c) for r in rows for c in columns]
                for b in range(2):
                    for k in range(3):
                        r, c = max(cells, key=lambda cell: counts[b, k, cell[0], cell[1]])
                        assert y[t, b, k, i, j] == x[t, b, k, r, c]


def test_accumulated_pool_sums_to_the_largest_sum_and_emits_spikes():
    torch.manual_seed(0)
    spikes = torch.randint(0, 2, (20, 1, 2, 6, 6)).float()
    y = AccumulatedMaxPool(WINDOW)(spikes)
    assert torch.equal(y.sum(0), F.max_pool2d(spikes.sum(0), 2)) and set(y.unique().tolist()) <= {0.0, 1.0}
    currents = torch.randn(20, 1, 2, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(AccumulatedMaxPool(WINDOW)(currents).sum(0), F.max_pool2d(currents.sum(0), 2))


def test_state_goes_from_call_to_call_in_a_stream():
    x = torch.randint(0, 2, (6, 2, 1, 4, 4)).float()
    for pool in (GatedMaxPool(WINDOW), AccumulatedMaxPool(WINDOW)):
        with Stream(pool):
            steps = [pool(x[t : t + 1]) for t in range(6)]
        assert torch.equal(torch.cat(steps), pool(x))
