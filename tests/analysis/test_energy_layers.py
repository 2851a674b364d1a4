"""Layers that run more than once, at several sizes, in a recurrent cell or in a sampler: each map counts as it is."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from analysis.energy.constants import MEMORIES, PRECISIONS
from analysis.energy.counts import label
from analysis.energy.estimate import Estimate
from analysis.energy.price import ann, graded, movement, papers
from analysis.energy.wiring import Wiring
from models import Detector, DirectEncoder, create_model
from models.deploy.fuse import fuse
from models.deploy.simulate import simulate
from models.layers.time import over_time
from neurons import build_neuron

T, B = 3, 2
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class Network(nn.Module):
    """Every convolution and linear layer sees spikes: of one map, or of two maps of different sizes."""

    channels, strides = (4,), (1,)

    def __init__(self):
        super().__init__()
        self.first, self.neuron = nn.Conv2d(3, 4, 3, padding=1), build_neuron({"name": "ilif", "D": 4})
        self.twice = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
        self.each, self.linear = nn.ConvTranspose2d(4, 4, 3, 2, 1, groups=4), nn.Linear(4, 5)

    def forward(self, x):
        s = self.neuron(over_time(self.first, x))
        pooled = over_time(lambda s: nn.functional.max_pool2d(s, 2), s)
        for maps in (s, pooled):
            over_time(self.twice, maps)
            self.linear(maps.movedim(2, -1))
        over_time(self.each, pooled)
        return [s]


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, maps):
        return [over_time(self.last, maps[0]).mean(0)]


def network() -> Detector:
    torch.manual_seed(0)
    model = Detector(Network(), Head(), DirectEncoder(T)).eval()
    nn.init.normal_(model.network.first.weight)
    return model


def fired(model: Detector) -> Detector:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 2.0)
            nn.init.constant_(module.bias, 0.5)
    return model.eval()


def estimated(model: Detector, x: torch.Tensor) -> tuple[dict, dict]:
    """(energy, {layer: [(layer, x, y) of each call]})."""
    calls: dict = {}
    layers = {n: m for n, m in model.named_modules() if isinstance(m, LAYERS)}
    hooks = [
        m.register_forward_hook(lambda m, x, y, n=n: calls.setdefault(n, []).append((m, x[0].clone(), y)))
        for n, m in layers.items()
    ]
    with torch.inference_mode(), Estimate(model) as estimate:
        model.raw(x)
    for hook in hooks:
        hook.remove()
    return estimate.result(), calls


def brute_force(layer: nn.Module, spikes: torch.Tensor) -> float:
    """Every weight 1, per image."""
    if isinstance(layer, nn.Linear):
        return spikes.abs().double().sum().item() * layer.out_features / B
    ones = type(layer).__new__(type(layer))
    ones.__dict__ = {**layer.__dict__, "_parameters": {"weight": torch.ones_like(layer.weight), "bias": None}}
    return ones(spikes.abs()).double().sum().item() / B


def test_each_use_of_a_layer_is_a_row():
    x = torch.poisson(torch.full((T, B, 3, 8, 8), 0.5), generator=torch.Generator().manual_seed(0))
    energy, calls = estimated(network(), x)
    rows = {row["name"]: row for row in energy["layers"] if row["kind"] in ("convolution", "linear")}
    assert {name.partition("#")[0] for name in rows} == set(calls) and "network.twice#2" in rows
    for name, seen in calls.items():
        for use, (layer, s, y) in enumerate(seen, 1):
            row = rows[name if use == 1 else f"{name}#{use}"]
            assert row["sop"] == pytest.approx(brute_force(layer, s)) and row["sop"] > 0
            assert row["theta"] == s.abs().sum().item() / B and row["runs"] == T
            assert (row["inputs"], row["outputs"]) == (s.numel() / T / B, y.numel() / T / B)
            dense = row["mac_dense"] * row["theta"] / row["inputs"]
            assert papers(row, T) == pytest.approx(0.9 * dense)
            assert row["additions"] == row["sop"] + y.numel() / B  # a bias for each output


def test_a_recurrent_convolution_is_one_layer_of_T_steps():
    model = fired(create_model("spikeyolo_n", num_classes=2, width=0.125, T=T, memory="gated"))
    for p in model.memory.parameters():
        if p.dim() == 4:
            nn.init.normal_(p)
    energy, calls = estimated(model, torch.poisson(torch.full((T, B, 3, 32, 32), 0.3)))
    recurrent = [row for row in energy["layers"] if row["name"].endswith(".recurrent")]
    assert recurrent
    for row in recurrent:
        seen = calls[row["name"]]
        layer, s, y = seen[0]
        assert len(seen) == row["runs"] == T
        assert (row["inputs"], row["outputs"]) == (s[0].numel(), y[0].numel())
        assert row["sop"] == pytest.approx(sum(brute_force(layer, s) for _, s, _ in seen))
        assert row["mac_dense"] == y[0].numel() * layer.in_channels * 9
        assert papers(row, T) == pytest.approx(0.9 * row["mac_dense"] * row["theta"] / s[0].numel())
        assert row["additions"] - row["sop"] == T * y[0].numel()
    assert any(row["sop"] for row in recurrent)


def test_layers_of_a_sampler_do_not_depend_on_the_size_of_the_batch():
    """The gate's first input is rest, the same for all images, so that it is computed once."""
    model = fired(create_model("eas_snn_s", num_classes=2, width=0.125, sampler="arsnn", T=2))
    x = torch.poisson(torch.full((B, 1, 4, 2, 32, 32), 0.5))
    apart = [estimated(model, x[i : i + 1])[0] for i in range(B)]
    energy, calls = estimated(model, x)
    of_encoder = [row for row in energy["layers"] if row["name"].startswith("encoder.") and "taps" in row]
    assert len(of_encoder) == 4
    for row in of_encoder:
        both = [next(other for other in one["layers"] if other["name"] == row["name"]) for one in apart]
        for key in ("runs", "maps", "mac_dense", "sop", "theta", "macs", "additions", "inputs", "outputs", "shape"):
            mean = row[key] if key == "shape" else sum(other[key] for other in both) / B
            assert row[key] == (mean if key == "shape" else pytest.approx(mean)), (row["name"], key)
        layer = calls[row["name"]][0][0]
        assert row["runs"] == row["maps"] == 4  # micro-bins
        assert (row["inputs"], row["outputs"]) == (layer.in_channels * 32 * 32, layer.out_channels * 32 * 32)
        of_map = row["outputs"] * layer.weight[0].numel()
        assert row["mac_dense"] == 4 * of_map and row["biases"] == layer.out_channels
        if row["input"] == "spikes":
            assert papers(row, 2) == pytest.approx(0.9 * of_map * row["theta"] / row["inputs"])
        flat, int8 = MEMORIES["flat"], PRECISIONS["int8"]
        moved = 4 * (row["inputs"] + row["weights"] + row["biases"] + row["outputs"])  # each bin reads them again
        assert ann(row, flat, int8, reuse=True)["memory"] == pytest.approx(8 * 3.12 * moved)
    for name, values in energy["of_samples"].items():
        assert values == pytest.approx([one["of_samples"][name][0] for one in apart])


def test_small_real_values_are_not_silent_spikes():
    model = network()
    small = 1e-3 * torch.rand(T, B, 3, 8, 8)
    energy, _ = estimated(model, small)
    first = energy["layers"][0]
    assert first["input"] == "real" and first["macs"] == T * first["mac_dense"]


def test_logits_of_steps_that_are_encoded_already():
    x = torch.poisson(torch.full((T, B, 3, 8, 8), 0.5), generator=torch.Generator().manual_seed(0))
    model, (expected, _) = network(), estimated(network(), x)
    with torch.inference_mode(), Estimate(model) as estimate:
        model.logits(x)
    found = estimate.result()
    assert found["samples"] == B and found["layers"] == expected["layers"]


def test_a_neuron_writes_a_graded_message_for_each_integer():
    x = torch.poisson(torch.full((T, B, 3, 8, 8), 0.5), generator=torch.Generator().manual_seed(0))
    model, seen = network(), []
    model.network.neuron.register_forward_hook(lambda m, x, y: seen.append(y))
    energy, _ = estimated(model, x)
    row = next(row for row in energy["layers"] if row["kind"] == "neuron")
    units, messages = seen[0].sum().item() / B, seen[0].count_nonzero().item() / B
    assert (row["theta_out"], row["messages_out"]) == (units, messages) and messages < units
    flat, int8 = MEMORIES["flat"], PRECISIONS["int8"]
    unit, message = (movement(of, flat, int8, reuse=False) for of in (row, graded(row, 4)))
    assert unit["memory"] - message["memory"] == pytest.approx((units - messages) * 32 * 3.12)
    assert unit["operations"] - message["operations"] == pytest.approx((units - messages) * int8.add)  # of the reset


def test_rows_of_a_converted_network_are_of_its_parts():
    names = {"network.currents.network.stem.layer": "network.stem", "network.spiking.head.predict.0": "head.predict.0"}
    functions = {"network.spiking.max_pool2d_4": "network.max_pool2d_4", "network.spiking": "network"}
    for name, row in (names | functions | {"encoder.sampler.fired": "encoder.sampler.fired"}).items():
        assert label(name) == row


def test_a_tensor_at_the_address_of_a_dropped_one_has_another_source():
    wiring, memory = Wiring(), np.zeros((T, B, 4, 8, 8), dtype=np.float32)
    wiring.layer("layer", torch.from_numpy(memory))
    y = torch.from_numpy(memory)
    wiring.neuron("stranger", y, y.clone())
    wiring.layer("other", y)
    wiring.neuron("neuron", y.flatten(0, 1).unflatten(0, (T, B)), y.clone())
    assert wiring.into == {"neuron": "other"} and not wiring.shared


def test_a_folded_batch_norm_changes_nothing():
    model = fired(create_model("ems_resnet10_ee", num_classes=2, T=T, width=0.125))
    x = torch.poisson(torch.full((T, B, 3, 32, 32), 0.3))
    (folded, _), (energy, _) = estimated(fuse(copy.deepcopy(model)), x), estimated(model, x)
    for key in ("synops", "additions", "papers_mJ", "movement_mJ", "twin_mJ", "neuron_updates"):
        assert energy["total"][key] == pytest.approx(folded["total"][key])
    assert energy["total"]["synops"] > 0


def test_papers_count_the_steps_that_each_simulation_has_run():
    model = network()
    with Estimate(model) as estimate:
        for steps in (1, 3):
            list(simulate(model, torch.rand(B, 3, 8, 8), [steps]))
    energy = estimate.result()
    assert (energy["T"], energy["mean_T"], energy["samples"]) == (3, 2, 2 * B)
    first = energy["layers"][0]
    assert first["input"] == "real" and papers(first, energy["mean_T"]) == 4.6 * 2 * first["mac_dense"]
    samples = energy["of_samples"]["papers_mJ"]
    assert sum(samples) / len(samples) == pytest.approx(energy["total"]["papers_mJ"])
