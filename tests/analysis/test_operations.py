"""Operations against brute force: each input convolved with a kernel of ones, on spikes of all kinds and all layers."""

import math

import pytest
import torch
from torch import nn

from analysis.operations import Operations, additions
from models import Detector, DirectEncoder, create_model, list_models
from models.deploy.binary import to_binary
from models.layers.spike_conv import RateConv
from models.layers.time import over_time
from neurons import build_neuron

LAYERS = {
    "3 x 3": lambda: nn.Conv2d(4, 6, 3, padding=1),
    "stride": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "no padding": lambda: nn.Conv2d(4, 6, (3, 1), stride=(1, 3)),
    "wide": lambda: nn.Conv2d(4, 6, 7, stride=4, padding=2),
    "dilation": lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2),
    "groups": lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "per channel": lambda: nn.Conv2d(4, 4, 5, padding=2, groups=4),
    "same": lambda: nn.Conv2d(4, 6, (3, 5), padding="same"),
    "reflected": lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1),
    "transposed groups": lambda: nn.ConvTranspose2d(4, 6, 4, 3, 2, groups=2, dilation=2),
}
SPIKES = {
    "binary": lambda x: (x > 0.8).float(),
    "integer": lambda x: (x * 4).floor(),
    "ternary": lambda x: (x * 3 - 1.5).round(),
}


def brute_force(layer: nn.Module, spikes: torch.Tensor) -> float:
    """Every weight 1: the outputs add up the values of the inputs that reach them."""
    ones = type(layer).__new__(type(layer))
    ones.__dict__ = {**layer.__dict__, "_parameters": {"weight": torch.ones_like(layer.weight), "bias": None}}
    return ones(spikes.abs()).double().sum().item()


@pytest.mark.parametrize("spikes", SPIKES)
@pytest.mark.parametrize("kind", LAYERS)
def test_additions_equal_those_of_brute_force(kind, spikes):
    torch.manual_seed(0)
    layer, s = LAYERS[kind](), SPIKES[spikes](torch.rand(3, 4, 9, 11))
    found = additions(layer, s.abs(), layer(s)).item()
    assert found == brute_force(layer, s) > 0


def test_a_published_count():
    """100 spikes, 3 x 3, 2 to 4 channels on 8 x 8: 3600 with the taps outside the border, 3108 without."""
    torch.manual_seed(0)
    layer, s = nn.Conv2d(2, 4, 3, padding=1), torch.zeros(4 * 2 * 8 * 8)
    s[torch.randperm(len(s))[:100]] = 1
    s = s.view(4, 2, 8, 8)
    assert additions(layer, s, layer(s)).item() == 3108


def test_dense_ones_reach_all_but_the_border():
    layer = nn.Conv2d(2, 4, 3, padding=1)
    ones = torch.ones(5, 2, 8, 6)
    assert additions(layer, ones, layer(ones)).item() == 5 * 2 * 4 * (3 * 8 - 2) * (3 * 6 - 2)


class Network(nn.Module):
    """Convolution - neuron - convolution, the next ones on a pool and a sum of spikes, on real values, and a linear
    layer."""

    channels, strides = (4,), (1,)

    def __init__(self, neuron):
        super().__init__()
        self.first, self.neuron = nn.Conv2d(3, 4, 3, padding=1), build_neuron(neuron)
        self.spikes, self.pooled = nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(8, 4, 1)
        self.real, self.linear = nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.Linear(4, 5)

    def forward(self, x):
        s = self.neuron(over_time(self.first, x))
        pool = over_time(lambda s: nn.functional.max_pool2d(s, 3, 1, 1), s)
        y = over_time(self.pooled, torch.cat([pool + s, s], 2)) + 0.123
        self.seen = s
        self.linear(s.movedim(2, -1))
        over_time(self.spikes, s)
        return [over_time(self.real, y)]


class Head(nn.Module):
    def __init__(self, neuron):
        super().__init__()
        self.last = RateConv(4, 2, build_neuron(neuron))

    def forward(self, maps):
        self.last.neuron.register_forward_hook(lambda m, x, y: setattr(self, "seen", y))
        return [self.last(maps[0])]


@pytest.mark.parametrize("neuron", ["ilif", "lif", "ternary_if"])
def test_layers_of_a_network(neuron):
    torch.manual_seed(1)
    T, B, sites = 3, 2, 6 * 7
    model = Detector(Network(neuron), Head(neuron), DirectEncoder(T)).eval()
    nn.init.normal_(model.network.first.weight, std=2.0)
    nn.init.normal_(model.network.real.weight, std=2.0)
    with torch.no_grad(), Operations(model) as operations:
        model.raw(torch.rand(B, 3, 6, 7))
    found, s = operations.layers(), model.network.seen
    assert found["network.first"] == {"theta": 0, "synops": 0, "macs": 27 * 4 * sites, "dense_macs": 27 * 4 * sites}
    theta, dense = s.abs().sum().item() / B, 4 * 9 * 4 * 3 * 4
    synops = brute_force(model.network.spikes, s.flatten(0, 1)) / B
    assert found["network.spikes"] == {"theta": theta, "synops": synops, "macs": 0, "dense_macs": dense} and theta
    assert found["network.linear"] == {"theta": theta, "synops": 5 * theta, "macs": 0, "dense_macs": 20 * sites}
    assert found["network.pooled"]["synops"] == 4 * found["network.pooled"]["theta"] > 0
    assert found["network.pooled"]["macs"] == 0
    dense = 2 * 9 * 4 * sites
    assert found["network.real"] == {"theta": 0, "synops": 0, "macs": T * dense, "dense_macs": dense}
    theta = model.head.seen.sum(0).abs().sum().item() / B  # of all T steps, of which the layer sees the mean
    assert found["head.last.conv"]["synops"] == pytest.approx(2 * theta, rel=1e-12) and theta
    assert found["head.last.conv"]["theta"] == pytest.approx(theta, rel=1e-12)
    assert found["head.last.conv"]["dense_macs"] == 4 * 2 * sites
    totals = operations.totals()
    assert totals == {k: sum(row[k] for row in found.values()) for k in ("synops", "macs", "dense_macs")}


def test_a_white_image_is_not_spikes_and_event_counts_are():
    model = Detector(Network("ilif"), Head("ilif"), DirectEncoder(2)).eval()
    with torch.no_grad():
        with Operations(model) as image:
            model.raw(torch.ones(1, 3, 4, 4))
        with Operations(model) as events:
            model.raw(torch.ones(2, 1, 3, 4, 4))
    assert image.layers()["network.first"]["macs"] == 27 * 4 * 16
    assert events.layers()["network.first"]["synops"] == 2 * 3 * 4 * (3 * 4 - 2) ** 2


def test_a_twin_has_no_additions_and_still_images_need_one_pass():
    model = create_model("ems_resnet10_ee", num_classes=2, T=4, width=0.125, neuron="relu").eval()
    with torch.no_grad():
        with Operations(model) as image:
            model.raw(torch.rand(2, 3, 32, 32))
        with Operations(model) as events:
            model.raw(torch.ones(4, 2, 3, 32, 32))
    found = image.totals()
    assert found["synops"] == 0 and found["macs"] == found["dense_macs"] > 0
    readouts = sum(row["macs"] for name, row in events.layers().items() if name.startswith("head.predict"))
    assert events.totals()["dense_macs"] == found["dense_macs"]
    assert events.totals()["macs"] == 4 * (found["macs"] - readouts) + readouts


def test_integers_cost_what_their_binary_steps_do():
    torch.manual_seed(0)
    model = create_model("spikeyolo_n", num_classes=2, width=0.125, T=2).eval()
    binary, x = to_binary(model), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        with Operations(model) as integer:
            model.raw(x)
        with Operations(binary) as steps:
            binary.raw(x)
    merged, slots = integer.totals()["merged"], steps.totals()
    assert merged["synops"] == pytest.approx(slots["synops"], rel=1e-3) and slots["synops"] > 0
    assert merged["macs"] == slots["macs"] == integer.layers()["network.down1.conv"]["macs"]  # the first layer's
    assert merged["dense_macs"] == slots["dense_macs"] > integer.totals()["dense_macs"]


@pytest.mark.parametrize("name", ["spikeyolo_n", "spiking_yolox_plif_s"])
def test_a_learned_readout_adds_the_same_spikes(name):
    found, x = [], torch.rand(2, 3, 32, 32)
    for readout in ("mean", "learned"):
        torch.manual_seed(0)
        model = create_model(name, num_classes=2, width=0.125, T=2, neuron="ilif", readout=readout).eval()
        for key, p in model.named_parameters():
            if key.endswith("step_weights.weight"):
                nn.init.uniform_(p)
            if key.endswith(("bn.weight", "norm.weight")):
                nn.init.constant_(p, 3.0)  # so that neurons fire
        with torch.no_grad(), Operations(model) as operations:
            for _ in range(2):
                model.raw(x)
        found.append(operations.layers())
    assert found[0] == found[1] and any(row["synops"] for layer, row in found[0].items() if layer.startswith("head."))


@pytest.mark.parametrize("name", list_models())
def test_every_model_is_counted(name):
    torch.manual_seed(0)
    model = create_model(name, num_classes=2, width=0.125).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 3.0)  # so that neurons fire
            nn.init.constant_(module.bias, 0.5)
    channels = 2 if name.startswith("eas_snn") else 3
    with torch.no_grad(), Operations(model) as operations:
        model.raw((torch.rand(1, channels, 64, 64) * 8).round() if channels == 2 else torch.rand(1, channels, 64, 64))
    found = operations.totals()
    convolutions = [n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert set(operations.layers()) == set(convolutions) and all(
        math.isfinite(found[k]) for k in found if k != "merged"
    )
    assert (found["synops"] > 0) == bool(model.spiking_layers()) and found["dense_macs"] > 0


def firing(name, **kwargs):
    torch.manual_seed(0)
    model = create_model(name, num_classes=2, width=0.125, **kwargs).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.8)
    return model


def test_graded_neurons_give_real_values():
    model = firing("ems_resnet18")
    with torch.no_grad(), Operations(model) as operations:
        model.raw(torch.rand(1, 3, 32, 32))
    found = operations.layers()
    assert found["head.predict.0"]["synops"] == 0 < found["head.predict.0"]["macs"]
    assert found["network.stages.0.residual.conv1.conv"]["macs"] == 0
    assert found["network.stages.0.residual.conv1.conv"]["synops"] > 0


def test_an_ann_part_adds_the_mean_of_spikes_and_multiplies_what_it_makes_of_it():
    model = firing("eas_snn_s", spiking="backbone", T=3, sampler="count")
    with torch.no_grad(), Operations(model) as operations:
        model.raw(torch.poisson(torch.ones(1, 1, 4, 2, 64, 64)))
    found = operations.layers()
    lateral5, top4 = found["network.neck_lateral5.conv"], found["network.neck_top4.m.0.conv1.conv"]
    assert lateral5["synops"] > 0 == lateral5["macs"] and top4["synops"] == 0 < top4["macs"] == top4["dense_macs"]


def test_convolutions_of_cells_are_those_of_pixels():
    """Samplers compute on cells of 2 x 2 pixels; event counts are spikes, of which each is added."""
    model, bins = firing("eas_snn_s"), torch.poisson(torch.full((1, 1, 3, 2, 64, 64), 0.2))
    with torch.no_grad(), Operations(model) as operations:
        model.raw(bins)
    name, first = next((n, m) for n, m in model.named_modules() if n.startswith("encoder") and isinstance(m, nn.Conv2d))
    counts = bins.flatten(0, 2)
    assert operations.layers()[name] == {
        "theta": counts.sum().item(),
        "synops": brute_force(first, counts),
        "macs": 0.0,
        "dense_macs": 3 * first.weight.numel() * 64 * 64,
    }
