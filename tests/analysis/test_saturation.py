"""Shares in and outside the window of each neuron, and the gradient norms of the convolutions that belong to it."""

import pytest
import torch
from torch import nn

from analysis.gradients import own_convolutions, ratios, training_statistics
from analysis.saturation import NAMES, Saturation
from analysis.unrounded import Unrounded, unrounded
from models import create_model, list_models
from neurons import MultiStepNeuron, Stream, build_neuron
from neurons.window import membrane, window


def shares(neuron, x, **options):
    model = nn.Sequential(neuron)
    with torch.no_grad(), Saturation(model, **options) as saturation:
        model(x)
        model(x)
    return saturation.shares()["0"]


def test_shares_of_one_step_are_those_of_the_input():
    x = torch.tensor([-2.0, -0.1, 0.0, 1.2, 4.0, 4.1, 9.0, 3.0]).view(1, 1, 4, 2)  # channels of two elements
    found = shares(build_neuron("ilif"), x)
    assert found == {"dead": 0.25, "inside": 0.5, "saturated": 0.25, "dead_channels": 0.25, "firing_rate": 0.625}
    wide = shares(build_neuron("ilif", margin=0.5), x)
    assert (wide["dead"], wide["saturated"]) == (0.125, 0.125)
    twin = shares(build_neuron("relu"), x)
    assert twin["saturated"] == 0 and twin["dead"] == 0.25
    ternary = shares(build_neuron("ternary_if", surrogate="rectangle"), x)  # |H| from 0.5 to 1.5
    assert (ternary["dead"], ternary["inside"]) == (0.25, 0.125)


def test_the_membrane_decides_not_the_input():
    """An input of 0.4 charges the membrane: 0.4, 0.8, 1.2 -> 0, and then an input of -5 is not all there is."""
    neuron = build_neuron("if", surrogate="rectangle", v_reset=None)  # window 0.5 to 1.5
    x = torch.tensor([0.4, 0.4, 0.4, -5.0, 2.0]).view(5, 1, 1, 1)
    assert membrane(neuron, x).flatten().tolist() == pytest.approx([0.4, 0.8, 1.2, -4.8, -2.8])
    found = shares(neuron, x)
    assert (found["dead"], found["inside"], found["saturated"]) == pytest.approx((0.6, 0.4, 0.0))


def test_a_dead_channel_is_one_that_is_dead_in_all_calls():
    model, first = nn.Sequential(build_neuron("lif")), torch.full((2, 1, 3, 4, 4), -1.0)
    second = first.clone()
    second[1, 0, 2, 3, 3] = 3.0
    with torch.no_grad(), Saturation(model) as both, Saturation(model, calls=1) as one:
        model(first)
        model(second)
    assert both.shares()["0"]["dead_channels"] == pytest.approx(2 / 3)
    assert one.shares()["0"] == {"dead": 1, "inside": 0, "saturated": 0, "dead_channels": 1, "firing_rate": 0}
    parts = Saturation(model)
    parts.merge([one.sums(), one.sums()])
    assert parts.shares() == one.shares()


@pytest.mark.parametrize("start, low, high", [(1.0, -2, 3), (0.002, -2, 16)])
def test_histograms_have_the_membranes_in_units_of_the_threshold(start, low, high):
    neuron = build_neuron("lif", v_threshold=start, surrogate="rectangle", learn_threshold=True)
    x = start * torch.tensor([-9.0, 0.2, 0.2, 2.6, 99.0]).view(1, 1, 5, 1, 1) / neuron.dynamics.gain
    with torch.no_grad(), Saturation(nn.Sequential(neuron), histograms=True) as saturation:
        neuron(x)
    (found,) = saturation.histograms().values()
    place = [min(max(int((value - low) / (high - low) * 60), 0), 59) for value in (-9.0, 0.2, 0.2, 2.6, 99.0)]
    assert (found.low, found.high, found.fires) == (low, high, (1.0,))
    assert [k for k, count in enumerate(found.counts) for _ in range(int(count))] == sorted(place)


def test_the_first_call_of_a_stream_is_measured():
    neuron, x = build_neuron("plif"), torch.rand(3, 2, 4, 5, 5) * 2
    model = nn.Sequential(neuron)
    with torch.no_grad(), Stream(model), Saturation(model, calls=1) as first:
        model(x)
        model(x)
    assert first.shares()["0"] == shares(neuron, x)


def test_convolutions_of_neurons_by_their_blocks():
    called = [
        "stem.conv",  # has no neuron
        "a.neuron", "a.conv.first", "a.conv.second",  # neuron - convolutions
        "b.conv", "b.neuron",  # convolution - neuron
        "c.path.neuron1", "c.path.conv1", "c.path.neuron2", "c.path.conv2", "c.shortcut_neuron", "c.shortcut",
        "d.conv1", "d.conv2", "d.neuron_l", "d.neuron_g",
    ]  # fmt: skip
    neurons = {name for name in called if "neuron" in name}
    assert own_convolutions([*called, *called], neurons) == {
        "a.neuron": ["a.conv.first", "a.conv.second"],
        "b.neuron": ["b.conv"],
        "c.path.neuron1": ["c.path.conv1"],
        "c.path.neuron2": ["c.path.conv2"],
        "c.shortcut_neuron": ["c.shortcut"],
        "d.neuron_l": ["d.conv2"],
        "d.neuron_g": ["d.conv2"],
    }


TARGETS = [{"boxes": torch.tensor([[4.0, 4.0, 40.0, 50.0]]), "labels": torch.tensor([1])}] * 2


@pytest.mark.parametrize("name", [n for n in list_models() if n.endswith(("_n", "_s", "_ee", "18", "yolo", "v3"))])
@pytest.mark.parametrize("neuron", ["lif", "ilif", "plif", "ternary_lif", "silu"])
def test_statistics_of_every_family(name, neuron):
    torch.manual_seed(0)
    model = create_model(name, num_classes=2, T=2, neuron=neuron, width=0.125)
    channels = 2 if name.startswith("eas_snn") else 3
    found = training_statistics(model, torch.rand(2, channels, 64, 64), TARGETS)
    neurons = [n for n, m in model.named_modules() if isinstance(m, MultiStepNeuron) and "encoder" not in n]
    assert set(found) == set(neurons)  # every neuron has a convolution
    windows = [row for row in found.values() if "dead" in row]
    assert any("direction" in row for row in found.values()) == (neuron == "ilif" and "sew" not in name)
    assert len(windows) == sum(window(model.get_submodule(n)) is not None for n in neurons)
    for row in windows:
        assert row.keys() - {"direction"} == {"gradient", *NAMES} and row["dead"] + row["inside"] + row[
            "saturated"
        ] == pytest.approx(1)


def test_dead_neurons_pass_no_gradient_on():
    """All potentials of one layer below its window: no gradient reaches its convolution, in the twin one does."""
    found = {}
    for neuron in ("ilif", "silu"):
        torch.manual_seed(0)
        model = create_model("spiking_yolo", num_classes=2, neuron=neuron, width=0.125)
        nn.init.constant_(model.network.conv3.bn.bias, -20.0)
        found[neuron] = training_statistics(model, torch.rand(2, 3, 64, 64), TARGETS)
    dead = found["ilif"]["network.conv3.neuron"]
    assert dead["dead"] == dead["dead_channels"] == 1 and dead["gradient"] == 0
    ratio = ratios(found["ilif"], found["silu"])
    assert ratio["network.conv3.neuron"] == ratio["network.conv2.neuron"] == 0
    assert found["silu"]["network.conv2.neuron"]["gradient"] > 0 and set(ratio) == set(found["silu"])


def test_the_weights_of_a_learned_readout_are_no_neuron():
    found, x = [], torch.rand(2, 3, 32, 32) * 4
    target = {"boxes": torch.tensor([[4.0, 6.0, 30.0, 28.0]]), "labels": torch.tensor([1])}
    for readout in ("mean", "learned"):
        torch.manual_seed(0)
        model = create_model("spikeyolo_n", num_classes=2, width=0.125, T=2, readout=readout)
        found.append(training_statistics(model, x, [target, target]))
    assert found[0].keys() == found[1].keys()
    for layer, row in found[0].items():
        assert found[1][layer] == pytest.approx(row, rel=1e-4), layer


@pytest.mark.parametrize("T", [1, 3])
def test_fine_levels_keep_the_direction_and_coarse_ones_lose_it(T):
    """With a step of 1/1000 of the potentials rounding changes little; with one of 1 it does."""
    found = {}
    for levels, step in ((4096, 1e-3), (4, 1.0)):
        torch.manual_seed(0)
        neuron = {"name": "ilif", "D": levels, "v_threshold": step}
        model = create_model("ems_resnet10_ee", num_classes=2, T=T, neuron=neuron, width=0.125)
        statistics = training_statistics(model, torch.rand(2, 3, 64, 64), TARGETS)
        found[levels] = [row["direction"] for row in statistics.values()]
    assert min(found[4096]) > 0.98 and max(found[4096]) <= 1.0001
    assert sum(found[4]) / len(found[4]) < 0.9


def test_without_rounding_a_network_is_the_clipped_one():
    x = torch.tensor([[-1.0, 0.3, 1.6, 9.0], [0.5, 0.5, 0.5, 0.5]]).view(2, 1, 4)
    smooth = Unrounded(build_neuron("ilif", D=4, tau=2.0))
    assert torch.allclose(smooth(x), torch.tensor([[0.0, 0.3, 1.6, 4.0], [0.0, 0.5, 0.5, 3.0]]).view(2, 1, 4))
    assert unrounded(create_model("ems_resnet10_ee", num_classes=2, width=0.125)) is None
