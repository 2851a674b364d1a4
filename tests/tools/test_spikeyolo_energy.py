"""SpikeYOLO-s at 640 x 640 against the authors' table: its totals come out, and what differs is named."""

import pytest

from tools.spikeyolo_energy import compare


def test_the_published_table_and_every_difference():
    found = compare("qualia")
    assert found.sheet == pytest.approx((34.49, 465.57), abs=0.005)
    assert found.sheet_macs / 1e9 == pytest.approx(101.211, abs=0.0005)  # paper
    assert found.ours_macs / 1e9 == pytest.approx(104.514, abs=0.0005)
    for i in (0, 1):
        added = sum(of[i] for of in found.differences.values())
        assert found.ours[i] == pytest.approx(found.sheet[i] + added, rel=1e-9)
    assert 0.2 < found.mean < 0.5 and 0.97 < found.inside < 0.98
    assert found.prices["papers"]["snn"] == pytest.approx(found.ours[0])
