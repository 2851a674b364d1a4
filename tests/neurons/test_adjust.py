"""Values that change during training: what a neuron says of them, and what its gradients then are."""

import copy

import pytest
import torch
from torch import nn

from neurons import DynamicNeuron, Stream, build_neuron, list_neurons

ADJUSTED = {
    "ilif": [{"margin": 1.0}, {"margin": 0.5, "outside": 0.1}, {"D": 6, "outside": 0.05}, {"margin": 0.0}],
    "lif": [{"alpha": 0.5}, {"alpha": 0.8, "outside": 0.1}, {"outside": 0.02}],
    "plif": [{"alpha": 0.5}, {"alpha": 0.8, "outside": 0.1}, {"outside": 0.02}],
}


def surrogate_of(name, values):
    """The arguments that build a neuron with these values."""
    if name == "ilif":
        return values
    return {"surrogate": {"name": "atan" if name == "plif" else "rectangle", **values}}


def gradient(neuron, x):
    x = x.clone().requires_grad_()
    y = neuron(x)
    return torch.cat([y.detach(), torch.autograd.grad(y, x, torch.ones_like(y))[0]])


@pytest.mark.parametrize("backend", ["torch", "compile"])
@pytest.mark.parametrize("name", ADJUSTED)
def test_an_adjusted_neuron_is_the_one_that_is_built_so(name, backend):
    torch.manual_seed(0)
    neuron, x, values = build_neuron(name, backend=backend), 2 * torch.randn(3, 200), {}
    for change in ADJUSTED[name]:
        neuron.adjust(**change)
        values = neuron.adjustable
        assert values.items() >= change.items()
        built = build_neuron(name, backend=backend, **surrogate_of(name, values))
        assert repr(neuron) == repr(built)
        assert torch.equal(gradient(neuron, x), gradient(built, x))


@pytest.mark.parametrize("name", list_neurons())
def test_every_neuron_says_what_it_can_adjust(name):
    neuron = build_neuron(name)
    if not isinstance(neuron, DynamicNeuron):
        return
    emit = neuron.dynamics.emit
    assert set(neuron.adjustable) == {
        "integer": {"D", "margin", "outside"}, "binary": {"alpha", "outside"}, "ternary": {"alpha", "outside"}
    }.get(emit, set())  # fmt: skip
    before = repr(neuron)
    neuron.adjust(**neuron.adjustable)
    assert repr(neuron) == before


@pytest.mark.parametrize(
    "name, values, message",
    [
        ("ilif", {"alpha": 1.0}, "ILIF has no 'alpha' to adjust.*There are D, margin, outside"),
        ("ilif", {"margins": 1.0}, "did you mean 'margin'"),
        ("lif", {"D": 2}, "LIF has no 'D' to adjust"),
        ("qcfs", {"L": 2}, "QCFS has no 'L' to adjust. There are none"),
        ("ilif", {"outside": 0.1, "margin": -1.0}, "margin must be at least 0"),
        ("ilif", {"D": 2.5}, "levels must be a positive integer"),
        ("lif", {"outside": 0.1, "alpha": 0.0}, "alpha must be a positive number"),
        ("lif", {"outside": 1.1}, "outside must be a number from 0 to 1"),
    ],
)
def test_what_cannot_be_adjusted_is_named_and_changes_nothing(name, values, message):
    neuron = build_neuron(name)
    before = neuron.adjustable
    with pytest.raises(ValueError, match=message):
        neuron.adjust(**values)
    assert neuron.adjustable == before


def test_a_copy_is_adjusted_by_itself_and_starts_from_the_present_values():
    neuron, x = build_neuron("ilif"), 3 * torch.randn(2, 100)
    neuron.adjust(outside=0.25)
    twin = copy.deepcopy(neuron)
    assert torch.equal(gradient(twin, x), gradient(neuron, x))
    twin.adjust(outside=0.0, D=2)
    assert neuron.adjustable["outside"] == 0.25 and neuron.adjustable["D"] == 4
    assert torch.equal(gradient(twin, x), gradient(build_neuron("ilif", D=2), x))
    assert torch.equal(gradient(neuron, x), gradient(build_neuron("ilif", outside=0.25), x))


def test_backward_uses_the_values_of_its_forward_and_a_carried_state_stays():
    neuron, x = build_neuron("ilif", detach_reset=False), (3 * torch.randn(2, 100)).requires_grad_()
    (expected,) = torch.autograd.grad(neuron(x).sum(), x)
    y = neuron(x)
    neuron.adjust(outside=0.5)
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], expected)
    with Stream(neuron):
        neuron(x)
        held = neuron.carried.clone()
        neuron.adjust(margin=1.0)
        assert torch.equal(neuron.carried, held)


def test_nothing_is_compiled_again_for_another_value():
    """Neither by the `compile` backend nor in a network that is compiled around its neurons."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    neuron, x = build_neuron("ilif", backend="compile"), torch.randn(2, 3, 50)
    net = nn.Sequential(nn.Linear(50, 50), build_neuron("ilif", backend="torch"))
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    counts = []
    for margin, outside in ((1.0, 0.2), (0.7, 0.1), (0.3, 0.05), (0.1, 0.01)):
        neuron.adjust(margin=margin, outside=outside)
        net[1].adjust(margin=margin, outside=outside)
        gradient(neuron, x)
        assert torch.equal(gradient(compiled, x), gradient(net, x))
        counts.append(counters["stats"]["unique_graphs"])
    assert counts[0] == counts[-1]
