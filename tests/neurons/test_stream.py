"""Membranes carried from call to call: a recording in pieces gives what it gives whole, gradients included."""

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn

from neurons import MultiStepNeuron, Stream, build_neuron, list_neurons
from neurons.base import DynamicNeuron

CARRYING = [n for n in list_neurons() if isinstance(build_neuron(n), DynamicNeuron) and not build_neuron(n).memoryless]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CARRYING)
def test_pieces_give_the_whole(name, layout):
    torch.manual_seed(0)
    x = torch.randn(14, 3, 4, 5).to(memory_format=layout).unflatten(0, (7, 2)).requires_grad_()
    module, weights = build_neuron(name), torch.randn(x.shape)
    whole = module(x)
    expected = torch.autograd.grad((whole * weights).sum(), [x, *module.parameters()])
    with Stream(module, detach=False):
        pieces = torch.cat([module(piece) for piece in (x[:3], x[3:4], x[4:])])
    assert torch.equal(pieces, whole)
    found = torch.autograd.grad((pieces * weights).sum(), [x, *module.parameters()])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert torch.equal(module(x), whole)  # and no state is left


def test_detached_pieces_stop_the_gradient_and_attached_ones_where_told():
    x = torch.full((3, 2, 1), 0.3, requires_grad=True)
    module = build_neuron("if", surrogate="atan")
    with Stream(module):
        for piece in x:
            y = module(piece[None])
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad[2].all() and not grad[:2].any()
    with Stream(module, detach=False) as stream:
        for i, piece in enumerate(x):
            if i == 1:
                stream.detach()
            y = module(piece[None])
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad[1:].all() and not grad[0].any()


def test_reset_of_all_and_of_some_rows():
    module, x = build_neuron("if", v_init=0.25), torch.full((1, 2, 3), 0.5)
    with Stream(module) as stream:
        assert not module(x).any()
        stream.reset(torch.tensor([True, False]))
        assert module.carried.tolist() == [[0.25] * 3, [0.75] * 3]
        assert module(x)[0].tolist() == [[0.0] * 3, [1.0] * 3]
        stream.reset()
        assert not module(x).any()
        functional.reset_net(module)
        assert not module(x).any()
        with pytest.raises(ValueError, match=r"rows must be bool \[2\], got torch.int64 \[1\]"):
            stream.reset(torch.tensor([1]))
        with pytest.raises(ValueError, match="reset the stream"):
            module(torch.zeros(1, 5, 3))
        with pytest.raises(RuntimeError, match="streamed already"), Stream(module):
            pass


def test_a_neuron_that_cannot_carry_its_membrane_is_named():
    class Forgetful(MultiStepNeuron):
        pass

    with pytest.raises(ValueError, match="1: Forgetful keeps no membrane"):
        Stream(nn.Sequential(build_neuron("lif"), Forgetful()))
    with Stream(nn.Sequential(build_neuron("relu"), build_neuron("qcfs"))) as stream:
        assert not stream.neurons
