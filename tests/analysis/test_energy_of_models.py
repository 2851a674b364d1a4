"""Every family has energies, converted networks too; energy.json alone gives every figure again."""

import json
import math

import pytest
import torch
from family_members import MEMBERS, member
from torch import nn

from analysis.energy.estimate import Estimate
from analysis.energy.table import brief, energy_rows
from models import create_model
from models.deploy import convert
from models.deploy.binary import to_binary
from models.deploy.calibrate import calibrate


def firing(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.5)
    return model.eval()


def estimated(model, x, memory="horowitz45") -> dict:
    with torch.inference_mode(), Estimate(model, memory) as estimate:
        model.raw(x)
    energy = json.loads(json.dumps(estimate.result()))
    assert not [line for line in energy["excluded"] if "elements" in line and "elu" not in line]
    return energy


def neuron_of(name: str) -> dict:
    """The families that are converted register their ANN: LIF in its place."""
    return {"neuron": "lif"} if not member(name).spiking_layers() else {}


@pytest.mark.parametrize("name", MEMBERS.values())
def test_every_family_has_energies(name):
    kwargs = neuron_of(name)
    energy = estimated(firing(member(name, **kwargs)), torch.rand(1, 3, 64, 64))
    total = energy["total"]
    assert energy["T"] == 2 and energy["coding"] in ("binary", "thermometer") and total["synops"] > 0
    assert {row["kind"] for row in energy["layers"]} >= {"convolution", "neuron"}
    for row in energy["layers"]:
        assert all(math.isfinite(v) and v >= 0 for v in row.values() if isinstance(v, (int, float)))
    for low, high in (total[key] for key in ("movement_mJ", "twin_mJ", "ann_int8_mJ", "ann_fp32_mJ")):
        assert 0 < low <= high
    assert 0 < total["papers_mJ"] and total["twin_mJ"][1] < total["ann_int8_mJ"][1] < total["ann_fp32_mJ"][1]
    check_recomputed(energy)
    assert len(energy["verdicts"]) == 6 and energy_rows(energy) and brief(energy)["papers_mJ"] == total["papers_mJ"]


def test_a_converted_network_is_counted_in_its_simulation():
    model = create_model("spiking_yolov3", num_classes=2, width=0.125, neuron="relu").eval()
    x = torch.rand(2, 3, 32, 32)
    ann = estimated(model, x)
    assert ann["coding"] == "none" and ann["total"]["synops"] == 0 and ann["verdicts"][0].startswith("no layer adds")
    energy = estimated(convert(model, calibrate(model, [x]), T=6), x)
    rows = {row["name"]: row for row in energy["layers"] if row["kind"] == "convolution"}
    assert energy["T"] == 6 and energy["samples"] == 2
    first, *others = rows.values()
    assert first["runs"] == 1 and first["macs"] == first["mac_dense"] and {row["runs"] for row in others} == {6}
    assert sum(row["mac_dense"] for row in rows.values()) == ann["total"]["mac_dense"]
    assert {row["part"] for row in rows.values()} == {"network", "head"}
    check_recomputed(energy)


def test_integers_and_their_binary_form_add_the_same():
    torch.manual_seed(0)
    model = firing(create_model("spikeyolo_n", num_classes=2, width=0.125, T=2))
    x = torch.rand(1, 3, 32, 32)
    integer, slots = (estimated(network, x)["total"] for network in (model, to_binary(model)))
    for key in ("synops", "spikes_per_synapse", "papers_mJ"):
        assert integer[key] == pytest.approx(slots[key], rel=1e-3)
    assert integer["mac_dense_merged"] == slots["mac_dense"] > integer["mac_dense"]


def spikingjelly(words, bits):
    kilobytes = min(words * bits / 8 / 1024, 1024.0)
    points = (0, 0.0), (8, 2.5), (32, 5.0), (1024, 25.0)
    (x0, y0), (x1, y1) = next(pair for pair in zip(points, points[1:], strict=False) if kilobytes <= pair[1][0])
    return bits / 8 * (y0 + (y1 - y0) * (kilobytes - x0) / (x1 - x0))


ACCESS = {
    "horowitz45": lambda words, bits: bits / 64 * next(
        (pj for kilobytes, pj in ((8, 10), (32, 20), (1024, 100)) if words * bits <= kilobytes * 8192), 1300
    ),
    "qualia": lambda words, bits: 1.09e-5 * words * bits + 13.2,
    "spikingjelly": spikingjelly,
    "flat": lambda words, bits: 3.12 * bits,
}  # fmt: skip


def check_recomputed(energy: dict) -> None:
    """Figures from `layers` and `constants` alone, by formulas written a second time."""
    papers = energy["constants"]["papers"]
    own = [row for row in energy["layers"] if row["form"] != "as run"]
    dense = [row for row in energy["layers"] if row["form"] != "merged"]
    layers = [row for row in own if "taps" in row]
    adding = [row for row in layers if row["input"] == "spikes"]
    total, T, D = energy["total"], energy["mean_T"], energy["D"]

    def as_papers(rows):
        spikes = sum(r["mac_dense"] / r["maps"] * r["theta"] / r["inputs"] for r in rows if r in adding)
        steps = sum(
            r["mac_dense"] * (1 if r["part"] == "encoder" else T) for r in rows if r in layers and r not in adding
        )
        return pytest.approx((spikes * papers["ac"] + steps * papers["mac"]) * 1e-9)

    assert total["papers_mJ"] == as_papers(own)
    assert total["papers_without_head_mJ"] == as_papers([row for row in own if row["part"] != "head"])
    assert total["papers_ann_mJ"] == pytest.approx(papers["mac"] * 1e-9 * sum(row["mac_dense"] for row in layers))
    rho = sum(row["sop"] for row in adding) / sum(row["mac_dense"] for row in adding)
    assert total["spikes_per_synapse"] == pytest.approx(rho) and total["rate"] == pytest.approx(rho / T / D)
    for row in layers:
        steps = 1 if row["part"] == "encoder" else T * D
        assert row["rho"] == pytest.approx(row["sop"] / row["mac_dense"]) == pytest.approx(row["rate"] * steps)
    sums = {"synops": "sop", "macs": "macs", "mac_dense_merged": "mac_dense"}
    assert {key: total[key] for key in sums} == {
        key: pytest.approx(sum(r[k] for r in layers)) for key, k in sums.items()
    }
    assert total["mac_dense"] == pytest.approx(sum(row["mac_dense"] for row in dense if "taps" in row))
    assert total["additions"] == pytest.approx(sum(row["additions"] for row in own))
    figures = {"movement_low_mJ": total["movement_mJ"][0], "movement_high_mJ": total["movement_mJ"][1]}
    for name, values in energy["of_samples"].items():
        assert sum(values) / len(values) == pytest.approx(figures.get(name, total.get(name)))

    precisions, bits = energy["constants"]["precisions"], total["twin_bits"]
    for rule in ACCESS:
        for precision, p in precisions.items():
            if precision not in energy["prices"][rule]:
                continue
            found = energy["prices"][rule][precision]
            for k, reuse in enumerate((True, False)):

                def close(rows, price):
                    return pytest.approx(1e-9 * sum(map(price, rows)))  # noqa: B023

                own_rule = Rule(energy["constants"], rule, p, p["activations"], reuse)
                assert found["snn"][k] == close(own, own_rule.spiking), (rule, precision, reuse)
                assert found["ann"][k] == close(dense, own_rule.dense), (rule, precision, reuse)
                if precision == "int8":
                    twin = Rule(energy["constants"], rule, p, bits, reuse)
                    assert found["twin"][k] == close(dense, twin.dense), (rule, reuse)
                assert ("snn_graded" in found) == (D > 1)
                if D > 1:
                    messages = Rule(energy["constants"], rule, p, D.bit_length(), reuse, graded=True)
                    assert found["snn_graded"][k] == close(own, messages.spiking), (rule, precision, reuse)


class Rule:
    """Energies of rows in pJ, after Lemaire et al., of activations of so many bits."""

    def __init__(self, constants, rule, p, bits, reuse, graded=False):
        self.access, self.rule, self.reuse, self.graded = ACCESS[rule], rule, reuse, graded
        self.add, self.multiply = p["add"], p["multiply"] * bits / p["activations"]
        self.bits, self.of_weights, self.of_sums = bits, p["weights"], p["membranes"]
        self.index = constants["addressing"]
        self.message = self.access(constants["messages"]["words"], constants["messages"]["bits"])

    def parameters(self, row, weights, biases):
        words = row["weights"], row["biases"]
        if self.rule == "spikingjelly":
            words = sum(words), sum(words)
        return weights * self.access(words[0], self.of_weights) + biases * self.access(words[1], self.of_weights)

    def spiking(self, row):
        if "taps" in row and row["input"] == "spikes":
            bias = row["additions"] - row["sop"]
            spikes, reached = ("messages", "graded_macs") if self.graded else ("theta", "sop")
            spikes, reached = row[spikes], row[reached]
            outputs = row["fan_out"] if row["kind"] == "linear" or self.rule == "spikingjelly" else 1
            pj = (reached + bias) * self.add + (reached * self.multiply if self.graded else 0)
            pj += spikes * (
                2 * (self.index["add"] + self.index["multiply"]) + row["taps"] * outputs * self.index["add"]
            )
            pj += spikes * self.message
            weights, biases, sums = reached, bias, reached + bias
            if self.reuse:
                weights, biases, sums = min(reached, row["runs"] * row["weights"]), row["runs"] * row["biases"], sums
                sums = min(sums, row["runs"] * row["outputs"])
            return pj + self.parameters(row, weights, biases) + 2 * sums * self.access(row["outputs"], self.of_sums)
        if "taps" in row:
            return self.product(row, row["macs"], row["maps"] * row["macs"] / row["mac_dense"])
        pj = (row["additions"] + row["comparisons"]) * self.add + row["macs"] * (self.add + self.multiply)
        if row["kind"] != "neuron":
            return pj + self.moved(row, self.of_sums)
        pj += (row["current"] + 2 * row["membrane"]) * self.access(row["outputs"], self.of_sums)
        if row["output"] == "real":
            return pj + row["updates"] * self.access(row["outputs"], self.bits)
        spikes = row["messages_out"] if self.graded else row["theta_out"]
        return pj + spikes * self.message - (row["theta_out"] - spikes) * self.add * row["memory"]

    def dense(self, row):
        if "taps" in row:
            return self.product(row, row["mac_dense"], row["maps"])
        if row["kind"] == "neuron":
            return row["outputs"] * self.add
        pj = (row["additions"] + row["comparisons"]) * self.add + row["macs"] * (self.add + self.multiply)
        return (pj + self.moved(row, self.bits)) / row["runs"]

    def product(self, row, macs, maps):
        inputs, outputs = row["inputs"] * maps, row["outputs"] * maps
        pj = macs * (self.add + self.multiply) + outputs * self.add
        pj += (inputs + outputs + maps * row["shape"][0] * row["taps"]) * self.index["add"]
        biases = maps * row["biases"] if self.reuse else outputs * (row["biases"] > 0)
        pj += self.parameters(row, maps * row["weights"] if self.reuse else macs, biases)
        read = inputs if self.reuse else macs
        return pj + read * self.access(row["inputs"], self.bits) + outputs * self.access(row["outputs"], self.bits)

    def moved(self, row, bits):
        read = row["reads_once" if self.reuse else "reads"]
        return read * self.access(row["inputs"], bits) + row["writes"] * self.access(row["outputs"], bits)
