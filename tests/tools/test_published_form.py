"""The published form of a network that is timed beside ours is the same network: losses, gradients, statistics."""

import pytest
import torch

from models import create_model
from registry import UserError
from tools.benchmark._published_form import published_form


@pytest.mark.parametrize("name", ["ems_resnet10", "ems_resnet18", "ems_resnet18_ee", "sew_resnet18", "spikeyolo_n"])
def test_same_losses_gradients_and_statistics(name):
    torch.manual_seed(0)
    ours = create_model(name, num_classes=3, T=3, width=0.125).train()
    for bn in (m for m in ours.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(bn.bias, -0.2, 0.4)  # so that neurons of all layers fire
    theirs = published_form(ours)
    x = torch.rand(2, 3, 64, 64)
    boxes = torch.tensor([[4.0, 4.0, 30.0, 40.0], [20.0, 10.0, 60.0, 50.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([0, 2])}] * 2
    results = []
    for model in (ours, theirs):
        losses = model(x, targets)
        torch.stack(list(losses.values())).sum().backward()
        results.append((losses, {k: p.grad for k, p in model.named_parameters()}, dict(model.named_buffers())))
    for a, b in zip(*results, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}")
    ours.eval(), theirs.eval()
    for a, b in zip(ours.raw(x), theirs.raw(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_only_of_what_was_published():
    for refused in (
        create_model("spikeyolo_n", num_classes=2, width=0.125, neuron={"name": "ilif", "D": 8}),
        create_model("ems_resnet10", num_classes=2, width=0.125, neuron={"name": "lif", "tau": 2.0}),
        create_model("ems_resnet10", num_classes=2, width=0.125, head="yolox"),
    ):
        with pytest.raises(UserError, match="--rival published"):
            published_form(refused)
