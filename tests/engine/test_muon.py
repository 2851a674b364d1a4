"""Muon for hidden layers, against torch's class for matrices; AdamW for the rest."""

import copy
import math

import pytest
import torch
from ranks import interrupted
from torch import nn

import engine.muon
import train
from engine.muon import hidden_weights
from engine.optim import Schedule, build_optimizer
from engine.runs.checkpoint import load_checkpoint
from models import create_model
from registry import UserError

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="need torch 2.9")


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 5, 1))


def step(model, optimizer, seed=0):
    torch.manual_seed(seed)
    optimizer.zero_grad()
    model(torch.rand(2, 3, 9, 9)).square().sum().backward()
    optimizer.step()


def test_hidden_layers_are_dense_and_neither_first_nor_last():
    model = create_model("spikeyolo_n", num_classes=2, width=0.25)
    hidden = {id(p) for p in hidden_weights(model)}
    names = [name for name, p in model.named_parameters() if id(p) in hidden]
    layers = dict(model.named_modules())
    convolutions = [name for name, m in layers.items() if isinstance(m, nn.Conv2d)]
    left_out = [name for name in convolutions if f"{name}.weight" not in names]
    grouped = [name for name in left_out if layers[name].groups > 1]
    first, *outputs = [name for name in left_out if name not in grouped]
    assert len(names) > 50 and len(grouped) > 5 and first == convolutions[0]
    assert {layers[name] for name in outputs} == set(model.head.readouts())
    assert any(name.startswith("head.") for name in names)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_step_is_that_of_torch_on_matrices_and_of_adamw_elsewhere(layout):
    model, plain, other = (net().to(memory_format=layout) for _ in range(3))
    optimizer = build_optimizer(model, "muon", 0.01, 0.9, 0.1)
    assert [(g["role"], len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups] == [
        ("hidden", 2, 0.1), ("weight", 2, 0.1), ("bias", 4, 0.0),
    ]  # fmt: skip
    schedule = Schedule(0.01, 1.0, 0.9, 10, 0, 0.0, 0.9)
    matrices = {i: nn.Parameter(plain[i].weight.detach().flatten(1).clone()) for i in (1, 3)}
    muon = torch.optim.Muon(matrices.values(), 0.01, 0.1, 0.9, adjust_lr_fn="match_rms_adamw")
    adamw = build_optimizer(other, "adamw", 0.01, 0.9, 0.1)
    for k in range(3):
        schedule.apply(optimizer, k)
        step(model, optimizer, seed=k)
        for i, matrix in matrices.items():
            matrix.grad = model[i].weight.grad.flatten(1).clone()
        for theirs, ours in zip(other.parameters(), model.parameters(), strict=True):
            theirs.grad = ours.grad.clone()
        muon.step()
        adamw.step()
    for i, matrix in matrices.items():  # rounding in bfloat16 depends on the order of columns
        torch.testing.assert_close(model[i].weight.flatten(1), matrix, atol=2e-4, rtol=1e-3)
        assert not torch.allclose(model[i].weight, other[i].weight, atol=1e-3)
    for i in (0, 2):
        assert torch.equal(model[i].weight, other[i].weight) and torch.equal(model[i].bias, other[i].bias)
    assert torch.equal(model[1].bias, other[1].bias)


def test_all_directions_of_a_matrix_are_stepped_alike():
    model = net()
    optimizer = build_optimizer(model, "muon", 0.01, 0.0, 0.0)
    before = model[1].weight.detach().clone()
    step(model, optimizer)
    values = torch.linalg.svdvals((before - model[1].weight.detach()).flatten(1)) / (0.01 * 0.2 * math.sqrt(72))
    assert len(values) == 6 and values.min() > 0.4 and values.max() < 1.4


def test_a_checkpoint_continues_in_either_layout():
    model = net()
    optimizer = build_optimizer(model, "muon", 0.01, 0.9, 0.1)
    step(model, optimizer)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    step(model, optimizer, seed=1)
    for layout, tolerance in ((torch.contiguous_format, 0.0), (torch.channels_last, 2e-4)):
        again = net().to(memory_format=layout)
        resumed = build_optimizer(again, "muon", 0.01, 0.9, 0.1)
        again.load_state_dict(saved[0])
        resumed.load_state_dict(copy.deepcopy(saved[1]))  # which it keeps
        step(again, resumed, seed=1)
        for a, b in zip(again.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=tolerance, rtol=0.0)


def test_a_run_with_muon_resumes_bit_for_bit(tiny):
    options = [tiny, "optim.name=muon", "optim.groups={head: 0.5}", "train.epochs=2", "train.eval_every=2"]
    whole = train.main([*options, "name=whole"])
    steps = load_checkpoint(whole / "checkpoint_last.pt")["steps_per_epoch"]
    with interrupted(3 * steps + 1):  # in the second epoch: a step of Muon counts as three, of itself and its parts
        train.main([*options, "name=parts"])
    parts = train.main([*options, "name=parts", "--resume"])
    one, other = (load_checkpoint(folder / "checkpoint_last.pt")["model"] for folder in (whole, parts))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_torch_without_muon_names_the_version_that_has_it(monkeypatch):
    monkeypatch.setattr(engine.muon, "Base", torch.optim.Optimizer)
    with pytest.raises(UserError, match="optim.name = 'muon': needs torch 2.9 or later.*this is torch"):
        build_optimizer(net(), "muon", 0.01, 0.9, 0.0)
