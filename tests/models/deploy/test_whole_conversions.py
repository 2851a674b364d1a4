"""Whole converted networks against the source's own code, with stateful activations in place of its own.

The reference shares nothing with the conversion: no graph, no folded BatchNorm, no normalised weights. Its neurons have
the threshold lam and emit spikes of height lam; max pooling is replaced where the code calls it.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from conversion_nets import TWINS, largest_activations, twin
from torch import nn

from models.deploy import convert, fold_bn, simulate

STEPS = 16


class Integrate(nn.Module):
    """One step x [1, B, C, H, W] of signed or unsigned integrate-and-fire neurons with the thresholds lam [C]."""

    def __init__(self, lam, slope, v_init):
        super().__init__()
        self.lam, self.slope = lam.view(-1, 1, 1), slope
        self.v, self.count = v_init * self.lam, 0

    def forward(self, x):
        u = self.v + x
        up = (u >= self.lam).double()
        down = (u <= -self.lam / self.slope).double() if self.slope else torch.zeros_like(u)
        self.v = u - self.lam * up + (self.lam / self.slope * down if self.slope else 0)
        self.count += int(up.sum() + down.sum())
        return self.lam * (up - down)


@contextmanager
def pooling_of_sums(pool: str, spikes: bool) -> Iterator[list[int]]:
    """F.max_pool2d by accumulated inputs; the n-th call of a step has the n-th state. Yields a list to reset calls."""
    original, state, calls = F.max_pool2d, {}, [0]

    def pooled(x, *args, **kwargs):
        kwargs.pop("return_indices", None)
        n, calls[0] = calls[0], calls[0] + 1
        before = state.get(n, torch.zeros_like(x))
        state[n] = before + x
        if pool == "accumulated" or not spikes:
            return original(state[n], *args, **kwargs) - original(before, *args, **kwargs)
        # lam is the same in all inputs of a window, so that the largest sum has the largest count
        _, winner = original(state[n], *args, **kwargs, return_indices=True)
        return x.flatten(-2).gather(-1, winner.flatten(-2)).view_as(winner)

    F.max_pool2d = pooled
    try:
        yield calls
    finally:
        F.max_pool2d = original


def reference(model, scales, x, slope, v_init, pool, spikes):
    """(logits at STEPS, {layer: spikes}) of the source's code."""
    source, neurons = copy.deepcopy(model), {}
    for name, lam in scales.items():
        parent, _, own = name.rpartition(".")
        neurons[name] = Integrate(lam, slope, v_init)
        setattr(source.get_submodule(parent), own, neurons[name])
    total = None
    with torch.no_grad(), pooling_of_sums(pool, spikes) as calls:
        for _ in range(STEPS):
            calls[0] = 0
            logits = source.logits(x[None])
            total = logits if total is None else [a + b for a, b in zip(total, logits, strict=True)]
    return [level / STEPS for level in total], {name: neuron.count for name, neuron in neurons.items()}


POOLS_SPIKES = ("spiking_yolo", "eas_snn_s", "spiking_yolox_s")
CASES = [(name, "relu", 0, 0.0, "gated", False) for name in TWINS if name not in POOLS_SPIKES] + [
    ("eas_snn_s", "relu", 0, 0.0, "gated", True),
    ("eas_snn_s", "relu", 0, 0.5, "accumulated", True),
    ("spiking_yolox_s", "relu", 0, 0.0, "gated", True),
    ("spiking_yolov3", "relu", 0, 0.5, "gated", False),
    ("spiking_yolo", "relu", 0, 0.0, "accumulated", True),
    ("spiking_yolo", "leaky_relu", 0.1, 0.0, "gated", True),
    ("double_threshold_tiny", "leaky_relu", 0.1, 0.0, "gated", True),
    ("double_threshold_resnet20", "leaky_relu", 0.1, 0.0, "gated", True),
    ("double_threshold_vgg16", "relu", 0, 0.0, "gated", True),
]


@pytest.mark.parametrize(("name", "neuron", "slope", "v_init", "pool", "spikes"), CASES)
def test_equals_the_source_with_stateful_activations(name, neuron, slope, v_init, pool, spikes):
    model = twin(name, neuron)
    x = torch.rand(2, 3, 32, 48, dtype=torch.float64)
    # Not the maxima themselves: a current that equals its threshold would fire by rounding.
    scales = {layer: 0.91 * lam for layer, lam in largest_activations(fold_bn(model), x[None]).items()}
    logits, counts = reference(model, scales, x, slope, v_init, pool, spikes)
    snn = convert(model, scales, v_init=v_init, pool=pool)
    ((_, found),) = simulate(snn, x, [STEPS])
    assert snn.spike_counts() == counts and all(counts.values())
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-9)
