"""Hybrid training: weights of a twin, other neurons; and the teacher of the same run."""

import json

import pytest
import torch
from torch import nn

import train
from engine.runs.open import open_run
from models import create_model
from models.transfer import fitting_weights
from neurons.base import DynamicNeuron

CLASSES = ["a", "b"]


def detector(neuron, name="spikeyolo_n", seed=0):
    torch.manual_seed(seed)
    width = {} if "nano" in name else {"width": 0.125}
    model = create_model(name, num_classes=2, T=1, neuron=neuron, **width)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.7)  # so that neurons fire, and no input is a half
    return model.eval()


@pytest.mark.parametrize("name", ["spikeyolo_n", "ems_resnet10_ee", "spiking_yolox_nano"])
@pytest.mark.parametrize(
    "twin", ["relu", "silu", {"name": "qcfs", "L": 4, "v_threshold": 4.0, "learn_threshold": False}]
)
def test_every_tensor_of_a_twin_fits(name, twin):
    source = detector(twin, name).state_dict()
    for neuron in ("ilif", "lif"):
        transfer = fitting_weights(detector(neuron, name, seed=1), source, CLASSES, CLASSES, twin)
        assert len(transfer.whole) == len(source) and not transfer.absent and not transfer.unused


def test_a_twin_of_the_same_levels_is_the_same_function():
    """QCFS with lambda = L and I-LIF with D = L at T = 1."""
    twin = {"name": "qcfs", "L": 4, "v_threshold": 4.0, "learn_threshold": False}
    source, model = detector(twin), detector({"name": "ilif", "D": 4}, seed=1)
    model.load_state_dict(fitting_weights(model, source.state_dict(), CLASSES, CLASSES, twin).weights)
    x = torch.rand(2, 3, 64, 64)
    for ours, theirs in zip(model.raw(x), source.raw(x), strict=True):
        torch.testing.assert_close(ours, theirs)
        assert not torch.allclose(ours[0], ours[1], atol=1e-3)


def test_a_learned_lambda_becomes_a_threshold_where_levels_begin_at_the_same_inputs():
    twin = {"name": "qcfs", "L": 4, "v_threshold": 2.0}
    source, model = detector(twin), detector({"name": "ilif", "D": 4, "learn_threshold": True}, seed=1)
    transfer = fitting_weights(model, source.state_dict(), CLASSES, CLASSES, twin)
    model.load_state_dict(transfer.weights)
    neurons = [(a, b) for a, b in zip(model.modules(), source.modules(), strict=True) if isinstance(a, DynamicNeuron)]
    assert len(transfer.levels) == len(neurons) > 50 and f"{len(neurons)} thresholds are lambda / L" in str(transfer)
    x = 3 * torch.randn(1, 1, 8, 100)
    for ours, theirs in neurons[:3]:
        torch.testing.assert_close(0.5 * ours(x), theirs(x))


def test_thresholds_of_other_kinds_are_not_taken_and_what_is_not_used_is_said():
    twin = {"name": "qcfs", "L": 4}
    source = detector(twin).state_dict()
    transfer = fitting_weights(detector({"name": "lif", "learn_threshold": True}), source, CLASSES, CLASSES, twin)
    assert all(key.endswith(".threshold") for key in transfer.absent) and len(transfer.absent) > 50
    transfer = fitting_weights(detector("ilif"), source, CLASSES, CLASSES, twin)
    assert len(transfer.unused) > 50 and "there not used: network." in str(transfer)


def test_a_run_from_a_twin_towards_the_twin(tiny, tmp_path, capsys):
    options = [tiny, "train.epochs=1", "optim.warmup_epochs=0"]
    twin = train.main([*options, "name=twin", "model.neuron=silu"])
    capsys.readouterr()
    student = train.main([*options, "optim.lr=0", f"train.init_from={twin}", f"train.distill={twin}"])
    said = capsys.readouterr().out
    total = len(open_run(twin).model.state_dict())
    assert f"{total} of {total} tensors fit" in said and "distils from " in said and "ems_resnet10_ee, silu" in said
    record = json.loads((student / "metrics.jsonl").read_text())
    scratch = train.main([*options, "optim.lr=0", "name=scratch", f"train.distill={twin}"])
    other = json.loads((scratch / "metrics.jsonl").read_text())
    assert 0 < record["loss/distill_features"] < other["loss/distill_features"]
