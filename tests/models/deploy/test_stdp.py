"""The STDP read-out: its rule is the sum over pairs of spikes, its neurons leak, and it learns classes of images."""

import math

import pytest
import torch
from spikingjelly.activation_based.functional import learning
from torch import nn

from models import Detector, DirectEncoder
from models.deploy import calibrate, convert
from models.deploy.stdp import STDPReadout
from models.heads import build_head
from models.layers.time import over_time
from models.layers.watch import watch
from neurons import build_neuron

CLASSES, INPUTS = 5, 16 * 6 * 6


def drawn_shapes(n, seed, size=12):
    """Noisy images [n, 1, size, size] of a horizontal, vertical or diagonal bar, a cross or a square, anywhere."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.zeros(n, 1, size, size), torch.randint(0, CLASSES, (n,), generator=generator)
    for image, label in zip(x[:, 0], y.tolist(), strict=True):
        r, c = torch.randint(3, size - 3, (2,), generator=generator).tolist()
        rows, columns = slice(r - 3, r + 4), slice(c - 3, c + 4)
        if label in (0, 3):
            image[r, columns] = 1
        if label in (1, 3):
            image[rows, c] = 1
        if label == 2:
            image[torch.arange(r - 3, r + 4), torch.arange(c - 3, c + 4)] = 1
        if label == 4:
            image[rows, columns] = 1
            image[r - 2 : r + 3, c - 2 : c + 3] = 0
    return (x + 0.2 * torch.randn(x.shape, generator=generator)).clamp(0, 1), y


class Net(nn.Module):
    """x [T, B, 1, H, W] -> one map of stride 2, of a convolution that has not been trained."""

    strides, channels = (2,), (16,)

    def __init__(self, neuron):
        super().__init__()
        self.conv, self.bn, self.neuron = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), build_neuron(neuron)
        self.pool = nn.MaxPool2d(2, 2)

    def forward(self, x):
        return [over_time(self.pool, self.neuron(over_time(self.bn, over_time(self.conv, x))))]


@torch.no_grad()
def spikes_of(x, T=32, neuron="relu"):
    """Spikes [T, B, 16, 6, 6] of the converted network's map, for images x."""
    torch.manual_seed(0)
    network = Net(neuron)
    model = Detector(network, build_head("anchor", network.channels, network.strides, 1), DirectEncoder(T))
    network(drawn_shapes(100, 0)[0][None])  # the statistics of BatchNorm
    snn = convert(model, calibrate(model, [drawn_shapes(100, 0)[0]]), T=T)
    found = []
    with watch([snn.network.spiking.get_submodule("network.pool")], lambda layer, x, y: found.append(y)):
        snn.logits(snn.encode(x))
    return found[0]


def accuracy(readout, spikes, labels):
    return (readout(spikes).argmax(1) == labels).float().mean().item()


def random_spikes(*shape, rate=0.3, seed=0):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


@pytest.mark.parametrize("neuron", ["relu", "leaky_relu"])
def test_learns_classes_of_images_it_has_not_seen(neuron):
    (x, y), (other, other_y) = drawn_shapes(300, 1), drawn_shapes(300, 2)
    spikes, held_out = spikes_of(x, neuron=neuron), spikes_of(other, neuron=neuron)
    assert set(spikes.unique().tolist()) == ({0, 1} if neuron == "relu" else {-1, 0, 1})
    readout = STDPReadout(INPUTS, CLASSES)
    untrained = accuracy(readout, held_out, other_y)
    readout.fit(spikes, y)
    assert untrained < 0.3
    assert accuracy(readout, spikes, y) > 0.9 and accuracy(readout, held_out, other_y) > 0.85


def test_the_teacher_decides_what_is_learned():
    """With labels drawn at random, held-out images are classified no better than by chance."""
    (x, _), (other, other_y) = drawn_shapes(300, 1), drawn_shapes(300, 2)
    readout = STDPReadout(INPUTS, CLASSES)
    readout.fit(spikes_of(x), torch.randint(0, CLASSES, (300,), generator=torch.Generator().manual_seed(5)), epochs=3)
    assert accuracy(readout, spikes_of(other), other_y) < 0.4


def test_the_rule_is_the_sum_over_pairs():
    T, B, N, K = 9, 2, 3, 2
    readout = STDPReadout(N, K, a_plus=0.7, a_minus=-0.4, tau_plus=3.0, tau_minus=5.0)
    pre, post = random_spikes(T, B, N), random_spikes(T, B, K, seed=1)
    exact = torch.zeros(K, N)
    for b in range(B):
        for t_pre, n in pre[:, b].nonzero().tolist():
            for t_post, k in post[:, b].nonzero().tolist():
                x = t_post - t_pre
                if x > 0:
                    exact[k, n] += 0.7 * math.exp(-x / 3)
                elif x < 0:
                    exact[k, n] -= 0.4 * math.exp(x / 5)
    torch.testing.assert_close(readout.pairs(pre, post), exact)


def test_the_rule_is_spikingjellys_where_no_spikes_coincide():
    """Its traces decay by 1 - 1/tau a step and count pairs with x = 0 in both lobes."""
    T, B, N, K, tau = 60, 2, 4, 3, 4.0
    pre = random_spikes(T, B, N)
    post = random_spikes(T, B, K, seed=1) * (pre.amax(2, keepdim=True) == 0)
    assert post.sum() > 5
    trace, change, weight = (torch.zeros(B, N), torch.zeros(B, K)), torch.zeros(K, N), torch.zeros(K, N)
    for s_pre, s_post in zip(pre, post, strict=True):
        kwargs = dict(tau_pre=tau, tau_post=tau, f_pre=lambda w: 0.3, f_post=lambda w: 1.0)
        step, trace = learning.stdp_linear_step(s_pre, s_post, trace, weight, **kwargs)
        change += step
    exponential = -1 / math.log(1 - 1 / tau)
    readout = STDPReadout(N, K, tau_plus=exponential, tau_minus=exponential)
    torch.testing.assert_close(readout.pairs(pre, post), change)


def test_neurons_leak_as_those_of_the_paper(golden):
    g = golden("conv_coding_pool")
    readout = STDPReadout(5, 5, gamma=g["lif_gamma"].item()).double()
    readout.weight.copy_(torch.eye(5))
    spikes, potential = readout._fire(g["lif_I"][:, None])
    assert torch.equal(spikes[:, 0], g["lif_s"])
    torch.testing.assert_close(potential[0], g["lif_v"][-1], rtol=0, atol=1e-12)
    torch.testing.assert_close(readout(g["lif_I"][:, None])[0], (g["lif_s"].sum(0) + g["lif_v"][-1]) / 20)


def test_rests_where_the_neurons_fire_with_the_teacher():
    readout = STDPReadout(2, 2, period=1)
    pre = torch.zeros(8, 1, 2)
    pre[:, 0, 0] = 1
    assert readout.update(pre, torch.tensor([0]))[0, 0] > 0 and readout.update(pre, torch.tensor([0]))[1].eq(0).all()
    readout.weight[0, 0] = 1.0  # class 0 fires at every step
    assert readout.update(pre, torch.tensor([0])).eq(0).all()
    change = readout.update(pre, torch.tensor([1]))
    assert change[0, 0] < 0 < change[1, 0]


def test_long_trains_and_signed_spikes_stay_finite():
    pre = random_spikes(1200, 1, 3) - random_spikes(1200, 1, 3, seed=1)
    readout = STDPReadout(3, 2)
    readout.fit(pre, torch.tensor([1]), epochs=2)
    assert readout.weight.isfinite().all() and readout.weight.any()


def test_training_is_repeatable_and_saved():
    x, y = drawn_shapes(40, 1)
    a, b = STDPReadout(INPUTS, CLASSES), STDPReadout(INPUTS, CLASSES)
    spikes = spikes_of(x, 8)
    a.fit(spikes, y, epochs=2)
    b.fit(spikes.flatten(2), y, epochs=2)
    assert a.weight.any() and torch.equal(a.weight, b.weight)
    c = STDPReadout(INPUTS, CLASSES)
    c.load_state_dict(a.state_dict())
    assert torch.equal(c(spikes), a(spikes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": 0}, "inputs = 0: give 1 or more"),
        ({"period": 0}, "period = 0"),
        ({"gamma": 1.0}, "gamma = 1.0: give a number between 0 and 1"),
        ({"a_minus": 0.1}, "a_minus = 0.1: give a number below 0"),
        ({"a_plus": 0.0}, "a_plus = 0.0"),
        ({"tau_plus": 0.0}, "tau_plus = 0.0: give a number of steps above 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        STDPReadout(**{"inputs": 4, "classes": 2} | arguments)


def test_spikes_and_labels_that_do_not_fit_are_named():
    readout, spikes = STDPReadout(4, 2), random_spikes(8, 3, 4)
    with pytest.raises(ValueError, match=r"spikes \[8, 3, 5\]: give \[T, B, N\] of N = 4"):
        readout(random_spikes(8, 3, 5))
    with pytest.raises(ValueError, match=r"labels of torch.float32 \[3\]: give int64 \[3\], one per image"):
        readout.fit(spikes, torch.zeros(3))
    with pytest.raises(ValueError, match="labels from 0 to 2: give 0 to 1"):
        readout.fit(spikes, torch.tensor([0, 1, 2]))
