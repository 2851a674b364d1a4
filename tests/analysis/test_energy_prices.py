"""Prices of rows against published worked examples: one layer, by Qualia's and SpikingJelly's memory rule."""

import pytest

from analysis.energy.constants import MEMORIES, PRECISIONS
from analysis.energy.price import ann, graded, movement, papers

INT32 = PRECISIONS["int32"]
N, STEPS = 4 * 8 * 8, 4  # 3 x 3, 2 to 4 channels on 8 x 8


def layer(sop: float = 3600.0) -> dict:
    """100 spikes in 4 steps, each of 9 taps and 4 output channels."""
    bias = float(STEPS * N)
    return {
        "kind": "convolution", "part": "network", "input": "spikes", "theta": 100.0, "sop": sop, "taps": 9,
        "fan_out": 4, "additions": sop + bias, "runs": STEPS, "inputs": 128, "outputs": N, "weights": 72, "biases": 4,
        "mac_dense": 4608.0, "maps": 1.0, "shape": [4, 8, 8], "macs": 0.0,
    }  # fmt: skip


def neuron(spikes: float) -> dict:
    """With a leak that is a multiplication, whose membrane the sums of the layer are."""
    return {
        "kind": "neuron", "output": "spikes", "outputs": N, "updates": STEPS * N, "theta_out": spikes,
        "macs": STEPS * N, "additions": spikes, "comparisons": 0.0, "current": 0.0, "membrane": 0.0, "runs": STEPS,
    }  # fmt: skip


def added(rows: list[dict], memory: str) -> dict[str, float]:
    found = [movement(row, MEMORIES[memory], INT32, reuse=False) for row in rows]
    return {key: sum(energy[key] for energy in found) for key in found[0]}


def test_a_spiking_layer_by_qualia():
    found = added([layer(), neuron(30.0)], "qualia")
    assert found["operations"] == pytest.approx(3742.2)
    assert found["addressing"] == pytest.approx(730.0)
    assert found["memory"] == pytest.approx(185_789.36, abs=0.01)
    assert sum(found.values()) == pytest.approx(190_261.56, abs=0.01)


def test_a_spiking_layer_by_spikingjelly():
    found = added([layer(), neuron(0.0)], "spikingjelly")
    assert found["operations"] == pytest.approx(3739.2)
    assert found["addressing"] == pytest.approx(1000.0)
    assert found["memory"] == pytest.approx(13_764.2, abs=0.05)
    assert sum(found.values()) == pytest.approx(18_503.4, abs=0.05)


def test_the_ann_of_the_layer_by_qualia():
    found = ann(layer(), MEMORIES["qualia"], INT32, reuse=False)
    assert found["memory"] == pytest.approx(128_754.27, abs=0.01)
    assert sum(found.values()) == pytest.approx(143_567.47, abs=0.01)


def test_the_layer_by_the_papers():
    assert papers(layer(), STEPS) == pytest.approx(3600 * 0.9)  # kernels beyond the border count
    assert papers(layer() | {"input": "real"}, STEPS) == pytest.approx(4 * 4608 * 4.6)


def test_integers_as_one_message_each():
    """40 messages of 100 unit spikes, which reach 1400 outputs: a multiplication of 3 bits in place of additions."""
    row = layer() | {"messages": 40.0, "graded_macs": 1400.0}
    assert graded(row, 1) is row and graded(row | {"input": "real"}, 4)["theta"] == 100
    int8, qualia = PRECISIONS["int8"].of_activations(3), MEMORIES["qualia"]
    found = movement(graded(row, 4), qualia, int8, reuse=False)
    assert found["operations"] == pytest.approx(1400 * (0.2 * 3 / 8 + 0.03) + STEPS * N * 0.03)
    assert found["addressing"] == pytest.approx(40 * (2 * 3.2 + 9 * 0.1))
    reads = 40 * qualia.access(1000, 32) + 1400 * qualia.access(72, 8) + STEPS * N * qualia.access(4, 8)
    assert found["memory"] == pytest.approx(reads + 2 * (1400 + STEPS * N) * qualia.access(N, 16))


def test_reuse_reads_weights_once_a_step_and_never_more_than_without():
    flat = MEMORIES["flat"]
    for sop in (3108.0, 10.0):
        high, low = (movement(layer(sop), flat, INT32, reuse)["memory"] for reuse in (False, True))
        weights = min(sop, STEPS * 72)
        assert low == pytest.approx(32 * 3.12 * (100 + weights + STEPS * 4 + 2 * STEPS * N)) and low < high


@pytest.mark.parametrize("sop, sums", [(3108.0, STEPS * N), (10.0, 10.0)])
def test_sums_of_a_layer_without_bias_are_kept_too(sop, sums):
    row = layer(sop) | {"additions": sop, "biases": 0}
    low = movement(row, MEMORIES["flat"], INT32, reuse=True)["memory"]
    assert low == pytest.approx(32 * 3.12 * (100 + min(sop, STEPS * 72) + 2 * sums))


@pytest.mark.parametrize(
    "memory, size, bits, energy",
    [
        ("horowitz45", 8 * 1024, 64, 10.0), ("horowitz45", 32 * 1024, 64, 20.0), ("horowitz45", 1024**2, 64, 100.0),
        ("horowitz45", 1024**2 + 8, 64, 1300.0), ("horowitz45", 1024, 8, 1.25), ("qualia", 8 * 1024, 32, 13.914),
        ("qualia", 1024**2, 32, 104.635), ("spikingjelly", 8 * 1024, 8, 2.5), ("spikingjelly", 1024**2, 32, 100.0),
        ("spikingjelly", 1 << 30, 8, 25.0), ("flat", 1, 8, 24.96),
    ],
)  # fmt: skip
def test_accesses_of_each_rule(memory, size, bits, energy):
    assert MEMORIES[memory].access(size * 8 / bits, bits) == pytest.approx(energy, abs=1e-3)


def test_a_multiplier_in_proportion_to_its_widths():
    assert PRECISIONS["int8"].mac == pytest.approx(0.23)
    assert PRECISIONS["int8"].of_activations(3).multiply == pytest.approx(0.2 * 3 / 8)
