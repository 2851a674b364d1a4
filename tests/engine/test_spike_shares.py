"""Shares of +1, 0 and -1 of ternary layers, in evaluations and of converted networks."""

import pytest
import torch
from untrained import IMAGES, parts, untrained_run

import evaluate
from analysis.firing_rate import FiringRates
from engine.curve import Curve
from models.deploy import calibrate, convert


def test_an_evaluation_writes_shares_of_ternary_layers_alone(scenes, tmp_path, capsys):
    shares, rates = {}, {}
    for neuron, spec in {"ternary_if": "{name: ternary_if, v_threshold: 0.1}", "lif": "lif"}.items():
        run = untrained_run(tmp_path / neuron, scenes, IMAGES, neuron=spec, protocol="coco")
        metrics = evaluate.main([str(run / "checkpoint_best.pt"), "--spikes", "--pictures", "0"])
        shares[neuron], rates[neuron] = metrics.get("spike_shares"), metrics["firing_rates"]
        printed = capsys.readouterr().out
        assert ("-1 0." in printed) == (neuron == "ternary_if")
    assert shares["lif"] is None and list(shares["ternary_if"]) == list(rates["ternary_if"])
    for layer, of_values in shares["ternary_if"].items():
        assert sum(of_values.values()) == pytest.approx(1)
        assert of_values["+1"] + of_values["-1"] == pytest.approx(rates["ternary_if"][layer])
    assert any(of_values["-1"] > 0 for of_values in shares["ternary_if"].values())
    # By steps: the same simulation.
    run = tmp_path / "ternary_if"
    metrics = evaluate.main([str(run / "checkpoint_best.pt"), "--spikes", "--pictures", "0", "--steps", "1,2"])
    for layer, of_values in metrics["spike_shares"].items():
        assert of_values == pytest.approx(shares["ternary_if"][layer], abs=1e-4)


@pytest.mark.parametrize("activation, neuron", [("leaky_relu", "signed_if"), ("relu", "corrected_if")])
def test_converted_networks_have_shares(scenes, tmp_path, activation, neuron):
    run = untrained_run(tmp_path / "run", scenes, IMAGES, model="spiking_yolov3", neuron=activation, protocol="coco")
    model, loader, new_evaluator = parts(run)
    batches = [batch.to("cpu")[0] for batch in loader]
    snn = convert(model, calibrate(model, batches[:1]), neuron=neuron).eval()
    curve = Curve(snn, [12], new_evaluator)
    with FiringRates(snn) as firing, torch.inference_mode():
        curve.run(loader, torch.device("cpu"))
    found, expected = curve.spike_shares(), firing.shares()
    assert found.keys() == expected.keys() and any(of_values["-1"] > 0 for of_values in found.values())
    for layer, of_values in found.items():
        assert of_values == pytest.approx(expected[layer], abs=1e-5)
