"""Patterns of parameter names, in words that all families share."""

import pytest
import torch
from torch import nn

from models import create_model, list_models
from models.parts import matching_parameters
from registry import UserError


def select(model, pattern):
    return matching_parameters(model, pattern, "train.freeze")


@pytest.mark.parametrize("name", [n for n in list_models() if n.endswith(("_n", "_s", "10", "20", "_tiny", "yolov3"))])
def test_backbone_and_neck_are_the_network(name):
    with torch.device("meta"):
        model = create_model(name, num_classes=2)
    network, backbone = select(model, "network"), select(model, "backbone")
    neck = [] if len(model.network.strides) < 3 and name.startswith("double") else select(model, "neck")
    assert sorted(backbone + neck) == sorted(network) and set(backbone).isdisjoint(neck)
    # What gives the maps of several levels comes after the backbone; a stem does not.
    assert all("neck" in n or n.split(".")[1] in model.network.neck for n in neck)
    assert network[0] in backbone
    assert sorted(select(model, "*")) == sorted(n for n, _ in model.named_parameters())


def test_a_pattern_selects_parameters_and_whole_modules():
    model = create_model("ems_resnet10_ee", num_classes=2, width=0.125)
    stem = ["network.stem.conv.weight", "network.stem.bn.weight", "network.stem.bn.bias"]
    for pattern in ("network.stem", "backbone.stem", "backbone.stem.*", "*.stem"):
        assert select(model, pattern) == stem, pattern
    assert select(model, "backbone.stem.bn.bias") == stem[2:]
    assert set(select(model, "head*")) == {n for n, _ in model.named_parameters() if n.startswith("head.")}
    assert all(n.endswith(".bn.weight") for n in select(model, "*.bn.weight"))
    assert select(nn.Sequential(nn.Linear(2, 3)), "0.*") == ["0.weight", "0.bias"]


def test_a_pattern_without_a_match_names_what_is_near():
    model = create_model("ems_resnet10_ee", num_classes=2, width=0.125)
    with pytest.raises(
        UserError, match=r"train.freeze: .*'bakbone\*', did you mean 'backbone'\? .* neck.lateral, .*head"
    ):
        select(model, "bakbone*")
    with pytest.raises(UserError, match=r"'network.stages.9', did you mean 'network.stages"):
        select(model, "network.stages.9")
