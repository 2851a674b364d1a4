"""Recurrent cells between network and head: the formulas, the identity at the start, streaming, every model."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from analysis.operations import Operations
from engine.distill import Distillation
from engine.ema import build_ema
from models import create_model, has_sampler, list_models, model_defaults, to_published_state_dict
from models.deploy import convert
from models.deploy.binary import to_binary
from models.memory import MEMORIES
from models.transfer import fitting_weights
from neurons import Stream

CELLS = MEMORIES.names()


def build(name="spikeyolo_n", memory="leaky", **kwargs):
    torch.manual_seed(0)
    small = {"width": 0.125} if "width" in model_defaults(name) else {}
    return create_model(name, **{"num_classes": 2, "T": 2, "in_channels": 2, "memory": memory} | small | kwargs)


def remembering(model):
    """The gains and the recurrent weights of the memory are no longer those of the start."""
    for key, p in model.memory.named_parameters():
        if key.endswith("output.bn.weight") or "recurrent.weight" in key:
            nn.init.normal_(p, std=0.3)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.bias, 0.0, 0.5)
    return model


def raw(model, x):
    with torch.no_grad():
        return model.raw(x)


def logits(model, x):
    with torch.no_grad():
        return model.logits(x)


@pytest.mark.parametrize("name, cell", [*((name, "gated") for name in list_models()), ("spikeyolo_n", "leaky")])
def test_every_model_begins_with_the_outputs_that_it_has_without_it(name, cell):
    plain, model = build(name, None), build(name, {"name": cell, "levels": None})
    weights = model.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in plain.state_dict().items())
    assert len(model.memory.blocks) == len(model.network.channels)
    x = torch.rand(2, 2, 2, 64, 96) * 4
    if has_sampler(name):
        x = torch.rand(2, 1, 3, 2, 64, 96)
    for training in (False, True):
        plain.train(training), model.train(training)
        torch.manual_seed(1)
        expected = raw(plain, x)
        torch.manual_seed(1)
        assert all(torch.equal(a, b) for a, b in zip(expected, raw(model, x), strict=True))


@pytest.mark.parametrize("neuron", [None, "relu"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_parameter_is_trained(cell, neuron):
    model = remembering(build(memory=cell, **({"neuron": neuron} if neuron else {}))).train()
    target = {"boxes": torch.tensor([[4.0, 6.0, 40.0, 50.0]]), "labels": torch.tensor([1])}
    sum(model(torch.rand(2, 2, 2, 64, 64) * 4, [target] * 2).values()).backward()
    for key, p in model.memory.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), key


@pytest.mark.parametrize("cell", CELLS)
def test_a_call_of_T_steps_equals_T_calls_and_rows_are_reset_alone(cell):
    model = remembering(build(memory=cell, T=6)).double().eval()
    x = torch.rand(6, 2, 2, 64, 64, dtype=torch.float64) * 4
    whole = logits(model, x)
    with Stream(model):
        steps = [logits(model, step[None]) for step in x]
    for level, expected in enumerate(whole):
        torch.testing.assert_close(torch.stack([s[level] for s in steps]).mean(0), expected)
    with Stream(model) as stream:
        logits(model, x[:3])
        stream.reset(torch.tensor([False, True]))
        later = logits(model, x[3:])
    fresh = logits(model, x[3:])
    torch.testing.assert_close(later[0][1], fresh[0][1])
    assert not torch.allclose(later[0][0], fresh[0][0])


def test_leaky_is_its_formula():
    cell = MEMORIES.build({"name": "leaky", "tau": 32.0, "D": 4}, 5)
    tau = 1 / cell.rate().detach().flatten()
    torch.testing.assert_close(tau, torch.logspace(1, 5, 5, base=2.0))
    x, v = torch.randn(7, 3, 5, 2, 2) * 3, torch.zeros(3, 5, 2, 2)
    for t, s in enumerate(cell(x)):
        v = (1 - 1 / tau.view(-1, 1, 1)) * v + x[t] / tau.view(-1, 1, 1)
        torch.testing.assert_close(s, (4 * v).round().clamp(0, 4))
    assert s.unique().numel() > 2


def test_the_gradient_goes_to_the_past_and_stops_outside_the_levels():
    cell = MEMORIES.build("leaky", 2)
    x = torch.tensor([0.3, 0.1, 0.2]).view(3, 1, 1, 1, 1).repeat(1, 1, 2, 1, 1).requires_grad_()
    rate = cell.rate().detach().flatten()
    cell(x)[-1].sum().backward()
    for k in range(3):
        torch.testing.assert_close(x.grad[2 - k].flatten(), 4 * rate * (1 - rate) ** k)
    below = (x.detach() - 9).requires_grad_()
    cell(below)[-1].sum().backward()
    assert not below.grad.any()


@pytest.mark.parametrize("spiking", [True, False])
def test_gated_is_its_formula(spiking):
    torch.manual_seed(0)
    cell = MEMORIES.build("gated", 3, spiking)
    nn.init.normal_(cell.recurrent.weight, std=0.2)
    x, v, s = torch.randn(9, 2, 9, 4, 4) * 3, torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    rate = cell.rate()
    open_ = (lambda z: (z >= 0).float()) if spiking else torch.sigmoid
    with torch.no_grad():
        for t, out in enumerate(cell(x)):
            f, i, g = (x[t] + cell.recurrent(s)).chunk(3, 1)
            v = open_(f) * (1 - rate) * v + open_(i) * rate * g
            s = (4 * v).clamp(0, 4)
            s = s.round() if spiking else s
            torch.testing.assert_close(out, s)


def test_gated_with_open_gates_is_leaky():
    gated, leaky = (MEMORIES.build({"name": name, "D": 2}, 3) for name in ("gated", "leaky"))
    g = torch.randn(6, 2, 3, 4, 4)
    assert torch.equal(gated(torch.cat([torch.zeros(6, 2, 6, 4, 4), g], 2)), leaky(g))


def test_averages_copies_and_weights():
    plain, model = build(memory=None), remembering(build(memory="gated"))
    fitting = fitting_weights(model, plain.state_dict(), ["a", "b"], ["a", "b"])
    assert len(fitting.whole) == len(plain.state_dict()) and all(k.startswith("memory.") for k in fitting.absent)
    x = torch.rand(2, 1, 2, 64, 64) * 4
    model.eval()
    with Stream(model):
        raw(model, x)
        twin = copy.deepcopy(model)
    average = build_ema(model, 0.9, 1.0).module.eval()
    for other in (twin, average):
        assert all(torch.equal(a, b) for a, b in zip(raw(model, x), raw(other, x), strict=True))


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="unknown memory 'leak', did you mean 'leaky'"):
        build(memory="leak")
    with pytest.raises(ValueError, match="levels = 4: the network has 3 maps. Give 1 to that, or null for all"):
        build(memory={"name": "leaky", "levels": 4})
    with pytest.raises(ValueError, match="tau = 2: give a number of steps above 2"):
        build(memory={"name": "gated", "tau": 2})
    model = build(memory="leaky")
    with pytest.raises(ValueError, match="the memory of this model, has no `published_names`"):
        to_published_state_dict(model)
    with pytest.raises(ValueError, match="memory: binary inference does not cover"):
        to_binary(model)
    with pytest.raises(ValueError, match="memory: its cells are recurrent"):
        convert(build("ems_resnet10_ee", "leaky", neuron="relu"), {})
    hybrid = build("eas_snn_s", "leaky", spiking="backbone")
    with pytest.raises(ValueError, match="memory: behind a mean over T it makes one step per call"):
        hybrid.stepper(torch.rand(2, 1, 3, 2, 64, 64))


def test_the_operations_of_a_call_are_those_of_its_steps():
    model = remembering(build(memory="gated", T=3)).eval()
    x, found = (torch.rand(3, 2, 2, 64, 64) * 3).round(), []
    for calls in (x[None], x[:, None]):
        model.T = calls.shape[1]
        with Operations(model) as operations, torch.no_grad(), Stream(model):
            for frames in calls:
                model(frames)
        of_memory = {k: v for k, v in operations.layers().items() if k.startswith("memory.")}
        found.append({k: (v["synops"] * 3 / model.T, v["macs"], v["dense_macs"]) for k, v in of_memory.items()})
    assert len(found[0]) == 3 and found[0] == found[1] and all(v[0] > 0 and v[1] == 0 for v in found[0].values())


def test_a_teacher_with_a_memory_teaches_its_logits():
    teacher, student = remembering(build(memory="leaky")), build(memory=None).train()
    loader = SimpleNamespace(dataset=SimpleNamespace(sequences=None))
    x, target = torch.rand(2, 2, 2, 64, 64) * 4, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    with Distillation(teacher, student).epoch(loader) as losses:
        logits = student.raw(x)
        found = losses(x, SimpleNamespace(targets=[target] * 2, starts=torch.ones(2, dtype=torch.bool)))
    wanted = raw(teacher, x)
    assert not torch.equal(wanted[0], teacher.head(teacher.network(teacher.encode(x)))[0])
    torch.testing.assert_close(found["distill_logits"], student.head.distill(logits, wanted))
