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


ACCESS = {
    "qualia": lambda words, bits: 1.09e-5 * words * bits + 13.2,
    "flat": lambda words, bits: 3.12 * bits,
}


def check_recomputed(energy: dict) -> None:
    """Figures from `layers` and `constants` alone, by formulas written a second time."""
    papers, levels = energy["constants"]["papers"], energy["constants"]["addressing"]
    own = [row for row in energy["layers"] if row["form"] != "as run"]
    dense = [row for row in energy["layers"] if row["form"] != "merged"]
    layers = [row for row in own if row["kind"] in ("convolution", "linear")]
    adding = [row for row in layers if row["input"] == "spikes"]
    total, T = energy["total"], energy["T"]
    pj = sum(row["mac_dense"] * row["theta"] / row["inputs"] for row in adding) * papers["ac"]
    pj += papers["mac"] * sum(
        row["mac_dense"] * (1 if row["part"] == "encoder" else T) for row in layers if row["input"] == "real"
    )
    assert total["papers_mJ"] == pytest.approx(pj * 1e-9)
    assert total["papers_ann_mJ"] == pytest.approx(papers["mac"] * 1e-9 * sum(row["mac_dense"] for row in layers))
    rho = sum(row["sop"] for row in adding) / sum(row["mac_dense"] for row in adding)
    assert total["spikes_per_synapse"] == pytest.approx(rho)
    assert total["rate"] == pytest.approx(rho / energy["mean_T"] / energy["D"])

    for rule, access in ACCESS.items():
        for precision in ("int8", "fp32"):
            p = energy["constants"]["precisions"][precision]
            mac, w, a, v = p["add"] + p["multiply"], p["weights"], p["activations"], p["membranes"]
            pj = 0.0
            for row in own:
                pj += row["additions"] * p["add"] + row["macs"] * mac + row.get("comparisons", 0.0) * p["add"]
                if row in adding:
                    fan_out = row["fan_out"] if row["kind"] == "linear" else 1
                    pj += 2 * row["theta"] * (levels["add"] + levels["multiply"])
                    pj += row["theta"] * row["taps"] * fan_out * levels["add"] + row["theta"] * access(1000, 32)
                    bias = row["additions"] - row["sop"]
                    pj += row["sop"] * access(row["weights"], w) + bias * access(row["biases"], w)
                    pj += 2 * (row["sop"] + bias) * access(row["outputs"], v)
                elif row in layers:
                    passes = row["macs"] / row["mac_dense"]
                    outputs = row["outputs"] * passes
                    pj += (row["inputs"] + row["outputs"] + row["shape"][0] * row["taps"]) * passes * levels["add"]
                    pj += (outputs - row["additions"]) * p["add"]
                    pj += row["macs"] * (access(row["inputs"], a) + access(row["weights"], w))
                    pj += (outputs if row["biases"] else 0) * access(row["biases"], w) + outputs * access(
                        row["outputs"], a
                    )
                elif row["kind"] == "neuron":
                    pj += (row["current"] + 2 * row["membrane"]) * access(row["outputs"], v)
                    spikes = row["output"] == "spikes"
                    pj += row["theta_out"] * access(1000, 32) if spikes else row["updates"] * access(row["outputs"], a)
                else:
                    pj += row["reads"] * access(row["inputs"], v) + row["writes"] * access(row["outputs"], v)
            assert energy["prices"][rule][precision]["snn"][1] == pytest.approx(pj * 1e-9), (rule, precision)
        b = total["twin_bits"]
        p = energy["constants"]["precisions"]["int8"]
        pj = 0.0  # of the twin, with reuse
        for row in dense:
            if row["kind"] in ("convolution", "linear"):
                pj += row["mac_dense"] * (p["add"] + p["multiply"] * b / 8) + row["outputs"] * p["add"]
                pj += (row["inputs"] + row["outputs"] + row["shape"][0] * row["taps"]) * levels["add"]
                pj += row["inputs"] * access(row["inputs"], b) + row["weights"] * access(row["weights"], 8)
                pj += row["biases"] * access(row["biases"], 8) + row["outputs"] * access(row["outputs"], b)
            elif row["kind"] == "neuron":
                pj += row["outputs"] * p["add"]
            else:
                work = (row["additions"] + row["comparisons"]) * p["add"] + row["macs"] * (
                    p["add"] + p["multiply"] * b / 8
                )
                moved = row["reads_once"] * access(row["inputs"], b) + row["writes"] * access(row["outputs"], b)
                pj += (work + moved) / row["runs"]
        assert energy["prices"][rule]["int8"]["twin"][0] == pytest.approx(pj * 1e-9), rule
