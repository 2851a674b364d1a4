"""The window of a neuron is where its gradient passes, and `membrane` gives the potential that decides it."""

import pytest
import torch

from neurons import build_neuron
from neurons.multistep.reference import reference
from neurons.window import membrane, window

ENDS = {
    "ilif": ({"name": "ilif", "D": 4}, 1.0),
    "ilif of another threshold": ({"name": "ilif", "D": 3, "v_threshold": 0.5, "margin": 0.5}, 1.0),
    "lif": ({"name": "lif"}, 1.0),
    "narrow": ({"name": "lif", "surrogate": {"name": "rectangle", "alpha": 2.0, "outside": 0.05}}, 1.0),
    "triangle": ({"name": "if", "surrogate": {"name": "triangle", "alpha": 0.7}}, 0.1),
    "plif": ({"name": "plif"}, 0.1),
    "sigmoid": ({"name": "if", "surrogate": "sigmoid"}, 0.1),
    "learned": ({"name": "plif", "learn_threshold": True, "v_threshold": 0.7}, 0.1),
    "ternary": ({"name": "ternary_if", "surrogate": {"name": "rectangle", "alpha": 1.0}}, 1.0),
    "qcfs": ({"name": "qcfs", "L": 8}, 1.0),
    "sth": ({"name": "sth"}, 0.1),
    "relu": ({"name": "relu"}, 1.0),
}


@pytest.mark.parametrize("case", ENDS)
def test_the_gradient_ends_where_the_window_does(case):
    """One step from rest, where H is the input; `share` of the largest gradient is what is left at the ends."""
    spec, share = ENDS[case]
    neuron = build_neuron(**spec)
    found = window(neuron)
    x = torch.linspace(-50, 50, 200_001, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(neuron(x[None]).sum(), x)
    h = x.detach().abs() if found.symmetric else x.detach()
    inside = (h > float(found.lower)) & (h < float(found.upper))
    largest = gradient.max()
    assert gradient[inside].min() >= share * largest * 0.99 and inside.any()
    near = (~inside) & ((h - float(found.lower)).abs().minimum((h - float(found.upper)).abs()) > 2e-3)
    assert (gradient[near].max() < share * largest).item()


def test_other_neurons_have_no_window():
    assert window(build_neuron("silu")) is None and window(build_neuron("graded_silu")) is None


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "ilif"}, {"name": "ilif", "tau": 2.0, "decay_input": True}, {"name": "lif"}, {"name": "plif"},
        {"name": "lif", "v_reset": 0.1, "learn_threshold": True}, {"name": "ternary_lif"},
        {"name": "if", "v_init": 0.5},
    ],
)  # fmt: skip
def test_the_membrane_is_that_of_the_reference(spec):
    """V of the reference after t steps is H, charged once more: with the next input 0, H = keep V + rest."""
    torch.manual_seed(0)
    neuron, x = build_neuron(**spec), 2 * torch.randn(4, 3, 50, dtype=torch.float64)
    d, learned = neuron.dynamics, (neuron.decay(), neuron.learned_threshold())
    h = membrane(neuron, x)
    keep, gain, rest = d.keep, d.gain, d.rest
    v = torch.full_like(x[0], d.v_init)
    for t in range(len(x)):
        assert torch.allclose(h[t], keep * v + gain * x[t] + rest, rtol=1e-6, atol=1e-9)
        v = reference(d, x[: t + 1], None, *learned)[1].detach()
    with torch.autocast("cpu", torch.bfloat16):
        assert membrane(neuron, x.float()).dtype == torch.float32
