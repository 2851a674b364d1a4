"""Conversion of a plain ReLU network agrees with SpikingJelly's, which is written independently."""

import pytest
import torch
from spikingjelly.activation_based import ann2snn, functional
from torch import nn

from models import Detector, DirectEncoder
from models.deploy import calibrate, convert, simulate
from models.layers.time import over_time, readout
from neurons import build_neuron


class Blocks(nn.Module):
    """Convolutions with BatchNorm, a transposed one, a concatenation, and two 1 x 1 convolutions for logits."""

    def __init__(self):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.c2, self.b2 = nn.Conv2d(8, 12, 3, 2, padding=1), nn.BatchNorm2d(12)
        self.c3, self.b3 = nn.Conv2d(12, 16, 3, 2, padding=1), nn.BatchNorm2d(16)
        self.up, self.b4 = nn.ConvTranspose2d(16, 10, 3, 2, 1, 1), nn.BatchNorm2d(10)
        self.c5, self.b5 = nn.Conv2d(22, 14, 3, padding=1), nn.BatchNorm2d(14)
        self.fine, self.coarse = nn.Conv2d(14, 6, 1), nn.Conv2d(16, 6, 1)
        self.f1, self.f2, self.f3, self.f4, self.f5 = (nn.ReLU() for _ in range(5))


class Plain(Blocks):
    """x [B, 3, H, W] -> logits of two levels, as SpikingJelly converts it."""

    def forward(self, x):
        c2 = self.f2(self.b2(self.c2(self.f1(self.b1(self.c1(x))))))
        c3 = self.f3(self.b3(self.c3(c2)))
        up = self.f4(self.b4(self.up(c3)))
        return self.fine(self.f5(self.b5(self.c5(torch.cat([up, c2], 1))))), self.coarse(c3)


class Network(nn.Module):
    """The same layers on x [T, B, 3, H, W]; maps of two levels."""

    channels, strides = (14, 16), (2, 4)

    def __init__(self, plain):
        super().__init__()
        self.plain = plain
        self.neurons = nn.ModuleList(build_neuron("relu") for _ in range(5))

    def forward(self, x):
        p, n = self.plain, self.neurons

        def layer(i, conv, bn, x):
            return n[i](over_time(bn, over_time(conv, x)))

        c2 = layer(1, p.c2, p.b2, layer(0, p.c1, p.b1, x))
        c3 = layer(2, p.c3, p.b3, c2)
        return [layer(4, p.c5, p.b5, torch.cat([layer(3, p.up, p.b4, c3), c2], 2)), c3]


class Logits(nn.Module):
    def __init__(self, plain):
        super().__init__()
        self.fine, self.coarse = plain.fine, plain.coarse

    def forward(self, maps):
        return [readout(self.fine, maps[0]), readout(self.coarse, maps[1])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_logits_differ_by_less_than_a_spike(dtype):
    """With lam = maximum the largest current equals the threshold, so rounding moves a spike now and then: c / T."""
    torch.manual_seed(0)
    plain = Plain().train()
    for _ in range(10):
        plain(torch.rand(4, 3, 32, 32))
    plain = plain.to(dtype).eval()
    x = torch.rand(2, 3, 32, 32, dtype=dtype)

    recipe = ann2snn.RateCodingRecipe([(x, 0)], mode="Max", channel_wise=True)
    theirs = ann2snn.Converter(recipe).convert(plain).eval()
    model = Detector(Network(plain), Logits(plain), DirectEncoder(1)).eval()
    ours = convert(model, calibrate(model, [x], percentile=100))

    functional.reset_net(theirs)
    sums, steps = [0, 0], [8, 32, 128]
    run = simulate(ours, x, steps)
    for t in range(1, steps[-1] + 1):
        sums = [a + b for a, b in zip(sums, theirs(x), strict=True)]
        if t not in steps:
            continue
        T, logits = next(run)
        assert T == t
        for own, level, ann in zip(logits, sums, plain(x), strict=True):
            assert (own - level / T).abs().max() < 0.25 / T
            assert (own - ann).abs().mean() < 0.2 / T
