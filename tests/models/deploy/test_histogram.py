"""Percentiles of a stream: those of the concatenated data, to the width of a bin."""

import numpy as np
import pytest
import torch

from models.deploy.histogram import BIN_WIDTH, BINS, LogHistogram

CPU = torch.device("cpu")


def data(dtype=torch.float32):
    """[N, 3, L] of channels on different scales, of both signs, the second mostly zero."""
    x = torch.randn(40, 3, 500, generator=torch.Generator().manual_seed(0), dtype=dtype)
    x[:, 1] *= torch.rand(40, 500, generator=torch.Generator().manual_seed(1)) < 0.02
    return x * torch.tensor([1.0, 30.0, 1e-3], dtype=dtype).view(3, 1)


def filled(parts, rows=3):
    histogram = LogHistogram(rows, CPU)
    for part in parts:
        histogram.add(part)
    return histogram


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("p", [0.01, 37, 50, 99, 99.9, 99.99, 100])
def test_percentiles_are_numpys_to_the_width_of_a_bin(p, dtype):
    x = data(dtype)
    found = filled(x.split(7)).percentile(p)
    values = x.abs().transpose(0, 1).flatten(1).double().numpy()
    exact = torch.from_numpy(np.quantile(values, p / 100, axis=1))
    seen = exact >= 2.0**-16
    assert (found[seen] >= exact[seen] * (1 - 1e-9)).all() and (found[seen] <= exact[seen] * (1 + BIN_WIDTH)).all()
    assert (found[~seen] == 0).all()


def test_the_percentile_100_is_the_maximum_and_no_other_exceeds_it():
    x = data(torch.float64)
    histogram, largest = filled([x]), x.abs().amax((0, 2))
    assert torch.equal(histogram.percentile(100), largest)
    assert (histogram.percentile(99.99999) <= largest).all()


def test_percentiles_lie_between_two_values():
    """Of 0, 1, ... 4 the 90th is 3.6; the values are lower edges of bins, each taken for its upper one."""
    x = torch.arange(5.0).view(1, 1, 5)
    assert filled([x], 1).percentile(90).item() == pytest.approx(0.4 * (3 + 2 / 128) + 0.6 * 4)
    assert filled([x], 1).percentile(50).item() == pytest.approx(2 + 2 / 128)
    assert filled([x[..., :1], x[..., 4:]], 1).percentile(25).item() == 1.0
    assert filled([x[..., 3:4]], 1).percentile(1).item() == 3.0  # the maximum


def test_order_and_batches_do_not_matter_and_memory_does_not_grow():
    x = data()
    once = filled([x])
    for parts in (x.split(1), x.flip(0).split([3, 30, 7]), [x[torch.randperm(40)]]):
        other = filled(parts)
        assert torch.equal(other.counts, once.counts) and torch.equal(other.maximum, once.maximum)
        assert other.total == once.total == 40 * 500
    twice = filled([x, x])
    assert torch.equal(twice.counts, 2 * once.counts)
    assert torch.equal(twice.percentile(99.9), once.percentile(99.9))
    assert once.counts.shape == (3, BINS) and once.counts.nbytes == 3 * 8 * 4097


def test_one_row_counts_everything():
    x = data()
    one = filled(x.split(7), 1)
    assert torch.equal(one.counts[0], filled([x]).counts.sum(0)) and one.total == x.numel()
    assert torch.equal(one.maximum, x.abs().max().double().view(1))


def test_the_share_above_a_percentile():
    """To the bin: values in the bin of the bound do not count."""
    x = data()
    histogram = filled([x])
    lam = histogram.percentile(99)
    least, most = (
        (x.abs() > bound.float().view(3, 1)).double().mean().item() for bound in (lam * (1 + BIN_WIDTH), lam)
    )
    assert 0.005 < least <= histogram.share_above(lam) <= most <= 0.0101
    assert histogram.share_above(histogram.maximum) == 0


def test_magnitudes_outside_the_range_count_in_the_end_bins():
    x = torch.tensor([1e-30, 1e-6, 1.0, 1e6, 3e6, 3.4e38]).view(1, 1, 6)
    histogram = filled([x], 1)
    assert histogram.counts.sum() == 6 and histogram.counts[0, 0] == 2 and histogram.counts[0, -1] == 3
    assert histogram.percentile(20).item() == 0 and histogram.percentile(80).item() == x.max().item()
