"""Gains and biases fitted to data: every neuron's input gets its target, in every family."""

import re

import pytest
import torch

from models import create_model, list_models
from models.fit_neurons import Target, fit_neurons, observe
from models.layers.running_statistics import kept_running_statistics
from models.neuron_inputs import mode, neuron_inputs
from models.registry import model_defaults
from neurons import build_neuron
from registry import UserError

# One size of each network: sizes differ in repeats and channels alone.
NETWORKS = [n for n in list_models() if not re.search("_[mlx]$|spikeyolo_.*s$|nano", n)]


def built(name: str, **kwargs):
    torch.manual_seed(0)
    kwargs = {"num_classes": 2, "width": 0.125, "T": 1 if name.startswith("spikeyolo") else 2} | kwargs
    model, channels = create_model(name, **kwargs), model_defaults(name)["in_channels"]
    return model, [torch.randn(model.T, 2, channels, 64, 64) for _ in range(2)]


def observed(model, batches):
    with torch.no_grad(), mode(model, norms_training=True), kept_running_statistics(model):
        steps = [model.encode(x) for x in batches]
        found = neuron_inputs(model, steps[0])
        return found, observe(model, found, steps)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_input_gets_its_target(name):
    model, batches = built(name, **({"sampler": "count"} if "eas" in name else {}))
    fit_neurons(model, batches, Target())
    found, seen = observed(model, batches)
    assert found
    for one in found:
        mean, std = Target().of(one.neuron)
        got = seen[one.name].moments()
        if one.norms:  # residual branches add a little to a stream that has the deviation already
            assert got[0] == pytest.approx(mean, abs=0.05 * std), one.name
            assert 0.97 * std < got[1] < (1.05 if one.alone else 1.3) * std, one.name
        else:  # what another neuron reads, or its maximum over 2 x 2
            assert mean - 0.1 * std < got[0] < mean + 1.2 * std and 0.6 * std < got[1] < 1.3 * std, one.name
        assert sum(seen[one.name].outside()) < 0.3, one.name


def test_targets_of_neurons():
    """0 .. levels * threshold of integers, 0 .. 2 thresholds of spikes; a damped input 1 / gain of it."""
    half, quarter = Target(0.5, 0.25), Target()
    assert half.of(build_neuron("ilif")) == (2.0, 1.0)
    assert half.of(build_neuron("ilif", D=2, v_threshold=0.5)) == (0.5, 0.25)
    assert half.of(build_neuron("ilif", tau=2.0, decay_input=True)) == (4.0, 2.0)
    assert quarter.of(build_neuron("lif")) == (0.25, 0.25)
    assert quarter.of(build_neuron("plif")) == (0.5, 0.5)
    assert quarter.of(build_neuron("qcfs")) == (1.0, 1.0)
    assert half.of(build_neuron("ternary_if")) == (0.0, 1.0) == half.of(build_neuron("relu"))
    tdbn = Target.parse("tdbn")
    assert tdbn.of(build_neuron("lif")) == (0.0, 0.5) and tdbn.of(build_neuron("ilif")) == (0.0, 1.0)
    assert Target.parse([1, 2]) == Target(1.0, 2.0)


@pytest.mark.parametrize("value", ["tdbm", [0.5], [0.5, 0], [0.5, float("nan")], 0.5, None, ["a", 1]])
def test_other_targets_are_errors(value):
    with pytest.raises(UserError, match="fit_target = .*: give .mean, standard deviation."):
        Target.parse(value)


def test_statistics_and_modes_stay():
    model, batches = built("spiking_yolov3_fc")
    model.train()
    before = {key: b.clone() for key, b in model.named_buffers()}
    fit_neurons(model, batches)
    assert all(torch.equal(b, before[key]) for key, b in model.named_buffers())
    assert all(m.training for m in model.modules())


def test_channels_keep_their_proportions():
    model, batches = built("ems_resnet10_ee")
    norm = model.network.stages[1].residual.conv1.bn
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(1, 2, len(norm.weight)))
        norm.bias.copy_(torch.linspace(0, 1, len(norm.bias)))
    fit_neurons(model, batches)
    for values in (norm.weight, norm.bias):
        steps = values.detach().diff()
        assert torch.allclose(steps, steps[0], rtol=1e-3) and steps[0] > 0


def test_an_input_without_events_leaves_gains_as_they_are():
    model, batches = built("eas_snn_s")
    gain = model.network.dark3[0].bn.weight.clone()
    fit_neurons(model, [torch.zeros_like(x) for x in batches])
    assert torch.equal(model.network.dark3[0].bn.weight, gain)
    assert all(p.isfinite().all() for p in model.parameters())


def test_the_weights_of_a_learned_readout_are_no_neuron():
    plain, batches = built("ems_resnet10_ee")
    model, _ = built("ems_resnet10_ee", readout="learned")
    assert fit_neurons(model, batches) == fit_neurons(plain, batches)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


def test_the_statistics_of_an_encoder_stay():
    torch.manual_seed(0)
    model = create_model("ems_resnet10_ee", num_classes=2, width=0.125, T=2, encoder="temporal")
    before = {key: value.clone() for key, value in model.encoder.state_dict().items()}
    fit_neurons(model, [torch.rand(2, 3, 64, 64)])
    assert all(torch.equal(value, before[key]) for key, value in model.encoder.state_dict().items())
