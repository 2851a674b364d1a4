"""Norms of the gradient of stages: they add up to the whole, which is torch's to the bit."""

import pytest
import torch
from torch import nn

from engine.gradient_norms import GradientNorms, stage_names
from models import create_model


@pytest.mark.parametrize("frozen", [False, True])
def test_the_total_is_that_of_torch_and_stages_add_up_to_it(frozen):
    torch.manual_seed(0)
    model = create_model("ems_resnet10_ee", num_classes=2, T=2, width=0.125)
    if frozen:
        model.network.stem.requires_grad_(False)
    norms = GradientNorms(model)
    for _ in range(2):
        model.zero_grad()
        losses = model(
            torch.rand(1, 3, 64, 64), [{"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.zeros(1).long()}]
        )
        sum(losses.values()).backward()
        total, of_stages = norms()
        assert total == nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        assert of_stages.square().sum().sqrt() == pytest.approx(float(total))
    found = dict(zip(norms.stages, of_stages.tolist(), strict=True))
    assert {"stem", "stages.0", "stages.3", "bridge", "p5", "p4", "head"} <= found.keys()
    assert (found["stem"] == 0) == frozen
    head = torch.cat([p.grad.flatten() for p in model.head.parameters()])
    assert found["head"] == pytest.approx(float(head.norm()))


def test_a_model_without_gradients_has_norm_0():
    total, of_stages = GradientNorms(nn.Linear(2, 2))()
    assert total == 0 and of_stages.tolist() == [0, 0]


def test_stages_are_parts_of_the_network():
    names = stage_names(create_model("spikeyolo_n", num_classes=2, width=0.125))
    stages = list(dict.fromkeys(names.values()))
    assert names["network.stage4.sep.wide.conv.weight"] == "stage4" and "head" in stages and len(stages) < 24
