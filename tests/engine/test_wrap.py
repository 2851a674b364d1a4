"""Checkpointing and compilation change neither numbers nor names."""

import copy

import pytest
import torch
from torch import nn

from engine.wrap import Checkpointed, blocks, wrap
from models import create_model
from neurons import Stream, build_neuron

CPU = torch.device("cpu")
ORDER = ["stem", *(f"stages.{i}" for i in range(4)), "bridge", "p5", "lateral", "p4"]


class Block(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.conv, self.norm, self.neuron = nn.Conv2d(c1, c2, 3, padding=1), nn.BatchNorm2d(c2), build_neuron("plif")

    def forward(self, x):
        return self.neuron(self.norm(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2]))


def toy():
    torch.manual_seed(0)
    return nn.Sequential(Block(3, 4), nn.Sequential(Block(4, 5), Block(5, 5)))


def steps(model, network, windows, detach=True):
    """Outputs, gradients and buffers of training steps on windows of a recording."""
    seen = []
    with Stream(model) as stream:
        for i, x in enumerate(windows):
            stream.reset(torch.tensor([i == 2, False]))
            model.zero_grad()
            y = network(x)
            y = y if isinstance(y, list) else [y]
            sum(level.square().sum() for level in y).backward()
            seen += [level.detach() for level in y]
            seen += [p.grad.clone() for p in model.parameters() if p.grad is not None]
            seen += [b.clone() for b in model.buffers()]
    return seen


@pytest.mark.parametrize("name", ["ems_resnet10_ee", "spikeyolo_n"])
def test_checkpointing_gives_the_same_digits(name):
    """Gradients, BatchNorm statistics and the membranes that a stream carries from window to window."""
    torch.manual_seed(0)
    plain = create_model(name, num_classes=2, T=2, width=0.125).train()
    windows = 3 * torch.rand(4, 2, 2, 3, 64, 64)
    checkpointed = copy.deepcopy(plain)
    assert wrap(checkpointed, True, False, CPU) is checkpointed
    ran = []
    first = next(blocks(checkpointed.network))
    next(m for m in first.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(lambda *_: ran.append(1))
    expected, found = (steps(m, m.network, windows) for m in (plain, checkpointed))
    assert len(ran) == 2 * len(windows)  # once forward and once for backward
    assert len(expected) == len(found) and all(map(torch.equal, expected, found))
    assert list(plain.state_dict()) == list(checkpointed.state_dict())


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["backbone.stem"], ["stem"]),
        (["network.stages.[01]", "neck.p4"], ["stages.0", "stages.1", "p4"]),
        (["network.stages"], [f"stages.{i}" for i in range(4)]),
    ],
)
def test_patterns_select_blocks(patterns, names):
    model = create_model("ems_resnet10_ee", num_classes=2, width=0.125)
    wrap(model, patterns, False, CPU)
    modules = model.network.named_modules()
    assert [name for name, m in modules if isinstance(m.forward, Checkpointed)] == sorted(names, key=ORDER.index)


def test_a_pattern_that_selects_no_block_is_named():
    model = create_model("ems_resnet10_ee", num_classes=2, width=0.125)
    for pattern in ("backbone.steem", "head", "network.stem.conv"):  # of the head nothing is recomputed
        with pytest.raises(ValueError, match=f"train.checkpoint: no block matches '{pattern}'"):
            wrap(model, [pattern], False, CPU)


def test_a_copy_of_a_checkpointed_model_runs_its_own_layers():
    model = wrap(toy(), True, False, CPU)
    other = copy.deepcopy(model)
    x = torch.rand(2, 1, 3, 8, 8)
    expected = other(x).detach()
    for p in model.parameters():
        nn.init.zeros_(p)
    assert expected.any() and torch.equal(other(x), expected) and not torch.equal(model(x), expected)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_compiled_blocks_agree_up_to_rounding(checkpoint, monkeypatch):
    compiled = []
    real = nn.Module.compile

    def without_inductor(self, **kwargs):  # the same graphs and the same autograd, in less time
        compiled.append(self)
        real(self, backend="aot_eager", **kwargs)

    monkeypatch.setattr(nn.Module, "compile", without_inductor)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    plain, model = toy().train(), toy().train()
    assert wrap(model, checkpoint, True, CPU) is model and compiled == [model[0], *model[1]]
    windows = 3 * torch.rand(4, 2, 2, 3, 8, 8)
    for a, b in zip(steps(plain, plain, windows), steps(model, model, windows), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    assert list(plain.state_dict()) == list(model.state_dict())
    assert torch._dynamo.utils.counters["graph_break"] == {}
