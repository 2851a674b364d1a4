"""Counts of a small network against brute force: layers, neurons, sums, pools, what is in place; simulations."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from analysis.energy.counts import Counts
from analysis.energy.estimate import Estimate
from analysis.energy.maps import MapOperations, columns_of
from models import Detector, DirectEncoder
from models.deploy import simulate
from models.layers.resample import max_pool, upsample
from models.layers.time import over_time
from neurons import Stream, build_neuron

T, B = 3, 2
KINDS = {
    "binary": {"name": "lif", "tau": 2.0},
    "integer": {"name": "ilif", "D": 4},
    "ternary": {"name": "ternary_if"},
}


class Blocks(nn.Module):
    """A convolution, two neurons of which the first alone takes its output, a grouped and a transposed convolution, a
    sum, pools and upsampling."""

    channels, strides = (4,), (1,)

    def __init__(self, neuron):
        super().__init__()
        self.first, self.bn, self.n1 = (
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            build_neuron(neuron),
        )
        self.grouped, self.n2 = nn.Conv2d(4, 4, 3, 2, 1, groups=2), build_neuron(neuron)
        self.up, self.n3 = nn.ConvTranspose2d(4, 4, 2, 2), build_neuron(neuron)

    def forward(self, x):
        s1 = self.s1 = self.n1(over_time(self.bn, over_time(self.first, x)))
        s2 = self.s2 = self.n2(over_time(self.grouped, s1))
        y = over_time(self.up, s2)
        self.s3 = self.n3(y + upsample(max_pool(y, 2)))
        return [self.s3]


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, maps):
        return [over_time(self.last, maps[0]).mean(0)]


def detector(kind: str) -> Detector:
    torch.manual_seed(0)
    model = Detector(Blocks(KINDS[kind]), Head(), DirectEncoder(T)).eval()
    for layer in (model.network.first, model.network.grouped, model.network.up):
        nn.init.normal_(layer.weight, std=1.0)
    return model


def events() -> torch.Tensor:
    return torch.poisson(torch.full((T, B, 3, 8, 8), 0.5), generator=torch.Generator().manual_seed(0))


def brute_force(layer: nn.Module, spikes: torch.Tensor) -> float:
    """Every weight 1, per image."""
    ones = type(layer).__new__(type(layer))
    ones.__dict__ = {**layer.__dict__, "_parameters": {"weight": torch.ones_like(layer.weight), "bias": None}}
    return ones(spikes.abs().flatten(0, 1)).double().sum().item() / B


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_network(kind):
    model, x = detector(kind), events()
    with torch.inference_mode(), Estimate(model) as estimate:
        model.raw(x)
    net, energy = model.network, estimate.result()
    rows = {row["name"]: row for row in energy["layers"]}
    spikes = {"first": x, "grouped": net.s1, "up": net.s2}
    for name, s in spikes.items():
        row, layer = rows[f"network.{name}"], getattr(net, name)
        assert row["sop"] == brute_force(layer, s) > 0
        assert row["theta"] == s.abs().sum().item() / B and row["messages"] == s.count_nonzero().item() / B
        assert row["graded_macs"] == brute_force(layer, (s != 0).float())
        bias = T * 4 * {"first": 64, "grouped": 16, "up": 64}[name]
        assert row["additions"] == row["sop"] + bias and row["macs"] == 0
        assert row["reads"] == row["theta"] + 2 * row["sop"] + 2 * bias and row["writes"] == row["sop"] + bias
        assert row["rho"] == row["sop"] / row["mac_dense"] and row["rate"] == row["rho"] / T / energy["D"]
    assert rows["network.first"]["mac_dense"] == 27 * 4 * 64 and rows["network.grouped"]["mac_dense"] == 18 * 4 * 16
    assert rows["network.up"]["mac_dense"] == 4 * 4 * 4 * 16 and rows["network.up"]["fan_out"] == 4
    assert rows["head.last"]["sop"] == 2 * net.s3.abs().sum().item() / B
    assert rows["network.first"]["weight_bytes"] == 4 * 27 * 4

    n1, n3 = rows["network.n1"], rows["network.n3"]
    leak = {"binary": 1, "integer": 1, "ternary": 0}[kind]  # tau 2 and 4/3 are shifts
    emitted = net.s1.abs().sum().item() / B
    assert n1["in_place"] and n1["theta_out"] == emitted and n1["additions"] == emitted + leak * T * 256
    assert n1["reads"] == 0 and n1["writes"] == emitted
    emitted = net.s3.abs().sum().item() / B
    assert not n3["in_place"] and n3["additions"] == emitted + (1 + leak) * T * 256  # its current comes from a sum
    assert n3["reads"] == 2 * T * 256 and n3["writes"] == emitted + T * 256
    assert n3["comparisons"] == T * 256 * {"binary": 1, "integer": 3, "ternary": 2}[kind]

    added, pooled, wide = (rows[f"network.{kind}"] for kind in ("sum", "max_pool", "upsample"))
    assert added["additions"] == added["writes"] == T * 256 and added["reads"] == 2 * T * 256
    assert pooled["comparisons"] == 3 * T * 64 and pooled["reads"] == 4 * T * 64 and pooled["reads_once"] == T * 256
    assert (wide["reads"], wide["writes"], wide["additions"]) == (T * 64, T * 256, 0)
    assert list(rows)[:4] == ["network.first", "network.n1", "network.grouped", "network.n2"]
    assert energy["coding"] == {"binary": "binary", "integer": "thermometer", "ternary": "ternary"}[kind]
    assert not [line for line in energy["excluded"] if "elements" in line]


def test_a_ternary_spike_costs_the_same_with_either_sign():
    model, x = detector("ternary"), events()
    found = []
    for sign in (1, -1):
        with torch.inference_mode(), Estimate(model) as estimate:
            model.logits(model.encode(sign * x))  # without biases every spike changes its sign
        found.append({row["name"]: row.get("theta", 0) for row in estimate.result()["layers"]})
    assert found[0]["network.first"] == found[1]["network.first"] > 0


def test_an_image_in_the_first_layer_counts_once():
    model = detector("binary")
    with torch.inference_mode(), Estimate(model) as estimate:
        model.raw(torch.rand(B, 3, 8, 8))
    energy = estimate.result()
    first = energy["layers"][0]
    assert first["input"] == "real" and first["macs"] == first["mac_dense"] == 27 * 4 * 64 and first["runs"] == 1
    real = energy["total"]["real_layers"]
    assert (real["macs"], real["macs_each_step"]) == (first["macs"], T * first["macs"])
    neuron = energy["layers"][1]  # adds the same current in each of T steps
    assert not neuron["in_place"] and neuron["reads"] == 2 * T * 256


def test_a_simulation_step_by_step_counts_what_one_call_does():
    model, x = detector("binary"), events()
    with torch.inference_mode(), Counts(model) as whole:
        model.raw(x)
    with Counts(model) as steps:
        for batch in (x, x.clone()):
            list(simulate(model, batch, [T]))
    assert steps.images == 2 * B and steps.steps == whole.steps == T
    for (facts, one), (same, other) in zip(whole.layers_counted(), steps.layers_counted(), strict=True):
        other["carried"] = one.get("carried", 0.0)  # a simulation keeps the membranes from call to call
        one.setdefault("carried", 0.0)
        assert facts == same and one == pytest.approx(other, rel=1e-6), facts.name


def test_deviations_over_samples():
    model, x = detector("integer"), events()
    with torch.inference_mode():
        with Estimate(model) as together:
            model.raw(x)
        apart = []
        for i in range(B):
            with Estimate(model) as estimate:
                model.raw(x[:, i : i + 1])
            apart.append(estimate.result())
    energy = together.result()
    for name in ("papers_mJ", "synops"):
        values = torch.tensor([one["total"][name] for one in apart], dtype=torch.float64)
        assert energy["of_samples"][name] == pytest.approx(values.tolist())
        assert energy["sd"][name] == pytest.approx(values.std(correction=0).item()) and energy["sd"][name] > 0
        assert energy["total"][name] == pytest.approx(values.mean().item())
    bounds = [[one["total"]["movement_mJ"][i] for one in apart] for i in (0, 1)]
    assert energy["of_samples"]["movement_high_mJ"] == pytest.approx(bounds[1])
    assert energy["of_samples"]["movement_low_mJ"] == pytest.approx(bounds[0])


def test_processes_together_have_what_one_has():
    model, x = detector("ternary"), events()
    shares = []
    with torch.inference_mode():
        with Estimate(model) as whole:
            model.raw(x)
        for i in range(B):
            with Estimate(model) as estimate:
                model.raw(x[:, i : i + 1])
            shares.append(estimate)
    shares[0].merge([share.state() for share in shares])
    one, merged = whole.result(), shares[0].result()
    assert merged["samples"] == B and merged["verdicts"] == one["verdicts"] and merged["excluded"] == one["excluded"]
    assert merged["total"]["movement_mJ"] == pytest.approx(one["total"]["movement_mJ"])
    for a, b in zip(one["layers"], merged["layers"], strict=True):
        assert a["name"] == b["name"] and a.keys() == b.keys()
        for key in ("sop", "theta", "theta_out", "additions", "macs", "reads", "writes", "mac_dense", "runs"):
            assert a[key] == pytest.approx(b[key]), (a["name"], key)
    for name, values in merged["of_samples"].items():
        assert values == pytest.approx(one["of_samples"][name])


def test_a_stream_carries_its_membranes_at_one_step():
    model, x = detector("integer"), events()
    model.encoder.T, kept = 1, []
    for stream in (nullcontext(), Stream(model)):
        with torch.inference_mode(), Estimate(model) as estimate, stream:
            for t in range(T):
                model.raw(x[t : t + 1])
        energy = estimate.result()
        row = next(row for row in energy["layers"] if row["name"] == "network.n3")
        assert energy["T"] == 1 and energy["samples"] == T * B
        kept.append((row["memory"], row["membrane"]))
    assert kept == [(False, 0.0), (True, 256.0)]


@pytest.mark.parametrize(
    "operation, kind, work",
    [
        (lambda x: x + x + x, "sum", {"additions": 128, "reads": 256, "writes": 128}),  # the first of two
        (lambda x: nn.functional.max_pool2d(x, 3, 1, 1), "max_pool", {"comparisons": 8 * 128, "reads": 9 * 128}),
        (lambda x: nn.functional.max_pool2d(x, (2, 1)), "max_pool", {"comparisons": 64, "reads": 128, "macs": 0}),
        (lambda x: nn.functional.avg_pool2d(x, 2), "average_pool", {"additions": 96, "macs": 32, "writes": 32}),
        (lambda x: x[None].mean(0), None, {}),  # of the read-out
        (lambda x: x.mean((-2, -1), keepdim=True), None, {"excluded": 4}),
        (lambda x: nn.functional.adaptive_avg_pool2d(x, 2), "adaptive_average_pool", {"additions": 120, "macs": 8}),
        (lambda x: nn.functional.interpolate(x, scale_factor=2), "upsample", {"reads": 128, "writes": 512}),
        (torch.fft.rfft2, "fourier", {"macs": 128 * 6, "additions": 192 * 6}),
        (lambda x: torch.cat([x, x], 1).flip(2)[..., :4].contiguous(), None, {}),
        (lambda x: x.exp(), None, {"excluded": 256}),
    ],
)
def test_operations_between_layers(operation, kind, work):
    """On maps of 2 channels, 8 x 8, of two images."""
    seen, x = [], torch.rand(2, 2, 8, 8)
    with torch.inference_mode(), MapOperations(lambda kind, *of: seen.append((kind, columns_of(kind, *of)))) as maps:
        maps.paused = 0
        operation(x)
    seen = [found for found in seen if found[0] != "other"]
    assert sum(maps.excluded.values()) == work.pop("excluded", 0)
    if kind is None:
        assert not seen
        return
    assert seen[0][0] == kind and {key: seen[0][1][key] / 2 for key in work} == work
