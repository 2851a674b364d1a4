"""Parameter groups, schedule and average, against numbers worked out by hand."""

import math

import pytest
import torch
from torch import nn

from engine.optim import Schedule, build_optimizer, groups_text


def net():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_weights_decay(name):
    optimizer = build_optimizer(net(), name, 0.1, 0.9, 0.01)
    assert {g["role"]: (len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups} == {
        "weight": (1, 0.01), "other": (1, 0.0), "bias": (2, 0.0),
    }  # fmt: skip
    with pytest.raises(ValueError, match="sgd, adamw or muon"):
        build_optimizer(net(), "adam", 0.1, 0.9, 0.01)


def test_schedule_warms_up_each_group_its_own_way_and_ends_at_the_factor():
    s = Schedule(0.1, 0.01, 0.9, total_steps=100, warmup_steps=10, warmup_bias_lr=1.0, warmup_momentum=0.5)
    assert s.rate(0) < 0.0101 and s.rate(9) == pytest.approx(0.1 * (0.01 + 0.99 * (1 + math.cos(math.pi * 0.09)) / 2))
    assert s.rate(0, "bias") > 0.9 and s.rate(9, "bias") == pytest.approx(s.rate(9))
    assert s.rate(50) == pytest.approx(0.1 * 0.505) and s.rate(100) == pytest.approx(0.001)
    for name, momentum in (("sgd", lambda g: g["momentum"]), ("adamw", lambda g: g["betas"][0])):
        optimizer = build_optimizer(net(), name, 0.1, 0.9, 0.0)
        s.apply(optimizer, 4)
        assert all(momentum(g) == pytest.approx(0.7) for g in optimizer.param_groups)


def test_a_linear_decay():
    s = Schedule(0.1, 0.01, 0.9, 100, 10, 1.0, 0.5, decay="linear")
    assert [s.rate(k) for k in (10, 50, 100)] == pytest.approx([0.0901, 0.0505, 0.001])
    assert s.rate(9) == pytest.approx(0.1 * (0.01 + 0.99 * 0.91))
    with pytest.raises(ValueError, match="cosine or linear, got 'lienar'"):
        Schedule(0.1, 0.01, 0.9, 100, 10, 1.0, 0.5, decay="lienar")


def test_sgd_without_momentum():
    model = net()
    optimizer = build_optimizer(model, "sgd", 0.1, 0.0, 0.0)
    before = model[0].weight.detach().clone()
    model(torch.rand(2, 1, 5, 5)).square().sum().backward()
    optimizer.step()
    assert torch.allclose(model[0].weight, before - 0.1 * model[0].weight.grad)


def test_groups_of_learning_rates_follow_the_schedule():
    """Each role keeps its decay and its warm-up, times the factor of the last pattern that matches."""
    model = nn.Sequential(net(), net())
    factors = {"0": 0.1, "*.1.bias": 0.5}
    optimizer = build_optimizer(model, "sgd", 0.1, 0.9, 0.01, factors)
    found = {(g["role"], g["pattern"]): (len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups}
    assert found == {
        ("weight", ""): (1, 0.01), ("weight", "0"): (1, 0.01), ("other", ""): (1, 0.0), ("other", "0"): (1, 0.0),
        ("bias", ""): (1, 0.0), ("bias", "0"): (1, 0.0), ("bias", "*.1.bias"): (2, 0.0),
    }  # fmt: skip
    s = Schedule(0.1, 0.01, 0.9, total_steps=100, warmup_steps=10, warmup_bias_lr=1.0, warmup_momentum=0.5)
    for step in (0, 9, 50, 100):
        rate, bias = s.rate(step), s.rate(step, "bias")
        assert s.apply(optimizer, step) == pytest.approx({"": rate, "0": 0.1 * rate, "*.1.bias": 0.5 * rate})
        for group in optimizer.param_groups:
            own = bias if group["role"] == "bias" else rate
            assert group["lr"] == pytest.approx(own * {"": 1.0, **factors}[group["pattern"]])
    assert groups_text(optimizer) == [
        "optim.groups: 22 parameters of 0 at 0.1 of the learning rate",
        "optim.groups: 4 parameters of *.1.bias at 0.5 of the learning rate",
    ]
    with pytest.raises(ValueError, match="optim.groups: no parameter matches 'backbone'"):
        build_optimizer(model, "sgd", 0.1, 0.9, 0.01, {"backbone": 0.1})


def test_a_factor_of_the_rate_is_the_step_of_a_smaller_rate():
    def stepped(lr, factors):
        torch.manual_seed(0)
        model = net()
        optimizer = build_optimizer(model, "sgd", lr, 0.9, 0.0, factors)
        Schedule(lr, 1.0, 0.9, 10, 0, 0.0, 0.9).apply(optimizer, 0)
        model(torch.rand(2, 1, 5, 5)).square().sum().backward()
        optimizer.step()
        return model

    whole, part, small = stepped(0.5, {}), stepped(0.5, {"0": 0.25}), stepped(0.125, {})
    assert torch.equal(part[0].weight, small[0].weight) and not torch.equal(part[0].weight, whole[0].weight)
    assert torch.equal(part[1].bias, whole[1].bias)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_state_of_another_device_keeps_the_optimizer_as_it_was_built(name):
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(model, name, 0.1, 0.9, 0.0)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["fused"] = True  # as of a GPU
    optimizer.load_state_dict(state)
    assert all(group["fused"] is None for group in optimizer.param_groups)
