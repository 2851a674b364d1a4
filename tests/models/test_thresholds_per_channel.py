"""Detectors whose activations learn a threshold per channel: any family, without being told its channels."""

import copy
import io
import pickle

import pytest
import torch
from test_detectors import build, targets
from torch import nn
from torch.optim.swa_utils import AveragedModel

from engine.optim import build_optimizer
from models import list_models


@pytest.mark.parametrize("name", list_models())
def test_every_model_is_built_with_thresholds_per_channel(name):
    """They are ordinary parameters when an optimizer, an average or a checkpoint sees them, and are not decayed."""
    model = build(name, neuron={"name": "qcfs", "L": 4, "per_channel": True}, in_channels=2, T=1)
    assert model.training
    thresholds = {k: p for k, p in model.named_parameters() if k.endswith("threshold")}
    assert all(type(p) is nn.Parameter and p.ndim == 1 for p in thresholds.values())
    assert all((p == 4).all() for p in thresholds.values()) and len(thresholds) >= 3
    # BatchNorm has seen none of the zeros that showed the channels.
    assert all(m.num_batches_tracked == 0 for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    optimizer = build_optimizer(model, "sgd", 1e-4, 0.9, 0.1)
    not_decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] == 0 for p in g["params"]}
    assert {id(p) for p in thresholds.values()} <= not_decayed
    average = AveragedModel(model)
    sum(model(torch.rand(2, 2, 64, 64), targets()).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in thresholds.values())
    optimizer.step()
    average.update_parameters(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), model.parameters(), strict=True))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    again = build(name, seed=1, neuron={"name": "qcfs", "L": 4, "per_channel": True}, in_channels=2, T=1)
    again.load_state_dict(torch.load(file, weights_only=True))
    x = torch.rand(1, 2, 64, 64)
    with torch.no_grad():
        for a, b in zip(again.eval().raw(x), model.eval().raw(x), strict=True):
            assert torch.equal(a, b)


def test_a_threshold_of_a_layer_is_not_decayed_either():
    model = build("ems_resnet10_ee", neuron="qcfs")
    decayed = {id(p) for p in build_optimizer(model, "adamw", 0.1, 0.9, 0.1).param_groups[0]["params"]}
    assert not any(id(p) in decayed for k, p in model.named_parameters() if k.endswith("threshold"))
