"""Bias calibration: layers of the converted network agree with the ANN on average, at the T it is for."""

import copy

import pytest
import torch
from torch import nn

from models import create_model
from models.deploy import calibrate, convert, simulate
from models.deploy.bias import add_bias, calibrate_bias
from models.deploy.graph import activations, readouts, trace
from models.encoders import BernoulliEncoder
from neurons import Stream
from neurons.signed_if import SignedIF


def ann(neuron="relu", name="spiking_yolov3", **kwargs):
    """An untrained detector whose BatchNorms have the statistics of images."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=2, T=1, width=0.125, neuron=neuron, **kwargs).train()
    with torch.no_grad():
        for _ in range(5):
            model.raw(torch.rand(4, 3, 64, 64))
    return model.eval()


def images(n, seed=1):
    return torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def error(snn, model, x, T):
    """Mean absolute difference of the logits at T."""
    ((_, logits),) = simulate(snn, x, [T])
    with torch.no_grad():
        return sum((a - b).abs().mean().item() for a, b in zip(logits, model.raw(x), strict=True))


def mean_errors(snn, model, x, T):
    """{layer: |mean of the ANN's activation / lam, clipped - mean rate| of each channel}, run step by step."""
    graph = trace(model)
    rates, targets = {}, {}
    layers = activations(graph) | readouts(graph)
    for name, neuron in snn.spiking_layers().items():
        neuron.register_forward_hook(
            lambda m, x, y, name=name: rates.update({name: rates.get(name, 0) + y.mean((0, 1, 3, 4)) / T})
        )
        source = name.removesuffix(":neuron")
        lowest = -1 if isinstance(neuron, SignedIF) else 0
        layers[source].register_forward_hook(
            lambda m, x, y, name=name, low=lowest, source=source: targets.update(
                {name: (y / snn.scales[source].float().view(-1, 1, 1)).clamp(low, 1).flatten(0, -4).mean((0, 2, 3))}
            )
        )
    with torch.no_grad(), Stream(snn):
        graph(model.encode(x))
        for t in range(T):
            snn.logits(snn.encode_step(x, t))
    return {name: (targets[name] - rates[name]).abs() for name in rates}


@pytest.mark.parametrize("neuron", ["relu", "leaky_relu"])
@pytest.mark.parametrize("name", ["spiking_yolov3", "ems_resnet10_ee"])
def test_the_error_falls_on_images_it_was_not_measured_on(name, neuron):
    model = ann(neuron, name)
    snn = convert(model, calibrate(model, [images(8)]))
    calibrated = calibrate_bias(snn, model, images(8).split(3), 16)
    assert calibrated.calibrated_at == 16 and snn.calibrated_at is None
    other = images(4, seed=2)
    assert error(calibrated, model, other, 16) < 0.85 * error(snn, model, other, 16)


@pytest.mark.parametrize("neuron, decode", [("relu", "v_mem"), ("leaky_relu", "v_mem"), ("relu", "spike_count")])
def test_layers_agree_on_average_in_a_simulation_step_by_step(neuron, decode):
    model, x = ann(neuron), images(6)
    snn = convert(model, calibrate(model, [x], readout=True), decode=decode)
    calibrated = calibrate_bias(snn, model, [x], 16)
    before, after = mean_errors(copy.deepcopy(snn), model, x, 16), mean_errors(calibrated, model, x, 16)
    assert list(calibrated.bias) == list(before) == list(after)
    for name in before:
        assert after[name].mean() < 0.75 * before[name].mean(), name


def test_each_layer_is_corrected_after_those_before_it():
    """The bias of the first layers is what each layer alone would get; then, of the layer that follows them."""
    model, x = ann(), images(4)
    snn = convert(model, calibrate(model, [x]))
    bias = calibrate_bias(snn, model, [x], 8).bias
    names = list(bias)
    for i in (0, 1, 4):
        partly = add_bias(snn, {name: bias[name] for name in names[:i]}, 8)
        assert list(partly.bias) == names[:i]
        error_now = mean_errors(partly, model, x, 8)[names[i]]
        torch.testing.assert_close(bias[names[i]].abs(), error_now, rtol=1e-4, atol=1e-6)


def test_batches_are_one_set_of_images():
    model, x = ann(), images(6)
    snn = convert(model, calibrate(model, [x]))
    whole, parts = calibrate_bias(snn, model, [x], 8), calibrate_bias(snn, model, iter(x.split([1, 5])), 8)
    for name in whole.bias:
        torch.testing.assert_close(whole.bias[name], parts.bias[name], rtol=1e-4, atol=1e-6)


def test_the_sources_are_not_changed_and_a_saved_bias_gives_the_same_network(tmp_path):
    model, x = ann(), images(3)
    scales = calibrate(model, [x])
    snn = convert(model, scales)
    weights, network = copy.deepcopy(model.state_dict()), copy.deepcopy(snn.state_dict())
    calibrated = calibrate_bias(snn, model, [x], 8)
    for module, before in ((model, weights), (snn, network)):
        assert module.state_dict().keys() == before.keys()
        assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    torch.save(calibrated.bias, tmp_path / "bias.pt")
    again = add_bias(convert(model, scales), torch.load(tmp_path / "bias.pt", weights_only=True), 8)
    assert again.calibrated_at == 8
    for (T, a), (_, b) in zip(simulate(again, x, [3, 8]), simulate(calibrated, x, [3, 8]), strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True)), T


def test_random_codes_are_calibrated_with_their_own_spikes():
    model, x = ann(), images(3)
    snn = convert(model, calibrate(model, [x]), encoder=BernoulliEncoder(8))
    before = mean_errors(copy.deepcopy(snn), model, x, 8)
    after = mean_errors(calibrate_bias(snn, model, [x], 8), model, x, 8)
    assert sum(e.mean() for e in after.values()) < 0.75 * sum(e.mean() for e in before.values())


def test_wrong_arguments_are_named():
    model, x = ann(), images(1)
    snn = convert(model, calibrate(model, [x]))
    with pytest.raises(ValueError, match="steps = 0: give the number of steps"):
        calibrate_bias(snn, model, [x], 0)
    with pytest.raises(ValueError, match="batches: no images"):
        calibrate_bias(snn, model, [], 4)
    with pytest.raises(ValueError, match=r"batches: images of the sizes \[\(32, 32\), \(64, 64\)\]"):
        calibrate_bias(snn, model, [x, nn.functional.avg_pool2d(x, 2)], 4)
    with pytest.raises(ValueError, match="is calibrated at T = 4: give the one that `convert` returned"):
        calibrate_bias(calibrate_bias(snn, model, [x], 4), model, [x], 8)
    with pytest.raises(ValueError, match="bias of layer 'none', which this network does not have"):
        add_bias(snn, {"none": torch.zeros(1)}, 4)
    name = next(iter(snn.spiking_layers()))
    for wrong in (torch.zeros(3), torch.zeros(2, 1), torch.full_like(snn.scales[name], float("nan"))):
        with pytest.raises(ValueError, match=f"bias of layer {name}: .*; give one finite number for each channel"):
            add_bias(snn, {name: wrong}, 4)
