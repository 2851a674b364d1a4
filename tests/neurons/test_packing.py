"""Spikes as bits, and back."""

import pytest
import torch

from neurons import build_neuron
from neurons.packing import bits_for, pack, unpack


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(0, 1, 1), (-1, 1, 2), (0, 3, 2), (0, 4, 4), (0, 15, 4), (0, 16, 8), (0, 255, 8)]
)
@pytest.mark.parametrize("size", [0, 1, 7, 64, 1003])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_integers_of_every_range_come_back(low, high, bits, size, dtype):
    x = torch.randint(low, high + 1, (size,), generator=torch.manual_seed(size)).to(dtype)
    assert bits_for(low, high) == bits
    packed = pack(x, low, bits)
    assert packed.dtype == torch.uint8 and packed.numel() == -(-size * bits // 8)
    found = unpack(packed, size, low, bits, dtype)
    assert found.dtype == dtype and torch.equal(found, x)


def test_more_levels_than_a_byte_has():
    assert bits_for(0, 256) is None


@pytest.mark.parametrize(
    ("spec", "range_"),
    [
        ("lif", (0, 1)),
        ("plif", (0, 1)),
        ("ternary_lif", (-1, 1)),
        ("signed_if", (-1, 1)),
        ({"name": "ilif", "D": 8, "learn_threshold": True, "v_threshold": 0.7}, (0, 8)),
        ("relu", None),
        ("graded_silu", None),
        ("qcfs", None),
        ("sth", None),
    ],
)
def test_what_neurons_emit(spec, range_):
    neuron = build_neuron(spec)
    y = neuron(torch.randn(4, 2, 3, 8, 8, generator=torch.manual_seed(0)) * 4)
    assert neuron.emits == range_
    integers = torch.equal(y, y.round())
    assert integers == (range_ is not None)
    assert range_ is None or (y.min() >= range_[0] and y.max() <= range_[1] and y.unique().numel() > 1)
