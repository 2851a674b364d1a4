"""Every registered neuron keeps the contract, and EMS-YOLO's equal the published code and SpikingJelly's node."""

import inspect

import pytest
import torch
from spikingjelly.activation_based import base, functional, neuron, surrogate

from neurons import build_neuron, list_neurons, neuron_factory


@pytest.mark.parametrize("name", list_neurons())
class TestEveryNeuron:
    def test_keeps_shape_dtype_and_layout(self, name):
        for x in (torch.randn(4, 2, 3, 5, 6), torch.randn(1, 2), torch.randn(3, 0, 4)):
            y = build_neuron(name)(x)
            assert y.shape == x.shape and y.dtype == x.dtype
        x = torch.randn(8, 3, 4, 6).to(memory_format=torch.channels_last).unflatten(0, (4, 2))
        assert build_neuron(name)(x).stride() == x.stride()

    def test_is_a_spikingjelly_memory_module_in_multi_step_mode(self, name):
        module = build_neuron(name)
        assert isinstance(module, base.MemoryModule) and module.step_mode == "m"
        functional.reset_net(module)
        with pytest.raises(ValueError):
            module.step_mode = "s"

    def test_same_input_same_output_and_input_untouched(self, name):
        module, x = build_neuron(name), torch.randn(4, 2, 3)
        before = x.clone()
        first = module(x)
        assert torch.equal(first, module(x)) and torch.equal(x, before)

    def test_gradient_reaches_every_step(self, name):
        x = (torch.rand(4, 64) + 0.05).requires_grad_()
        build_neuron(name)(x).sum().backward()
        assert x.grad.isfinite().all() and (x.grad.abs().sum(1) > 0).all()

    def test_membrane_is_float32_under_autocast(self, name):
        x = torch.randn(8, 512).bfloat16()
        module = build_neuron(name)
        with torch.autocast("cpu", torch.bfloat16):
            y = module(x)
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(y, module(x.float()).bfloat16(), rtol=0, atol=0)

    def test_spikes_are_binary(self, name):
        if build_neuron(name).spiking:
            y = build_neuron(name)(torch.randn(4, 1000))
            assert set(y.unique().tolist()) <= {0.0, 1.0} and y.any()

    def test_every_argument_has_a_default_and_a_wrong_one_is_named(self, name):
        arguments = list(inspect.signature(type(build_neuron(name))).parameters)
        with pytest.raises(ValueError, match="has no argument 'tua'" + (".*'tau'" if "tau" in arguments else "")):
            build_neuron(name, tua=2.0)


@pytest.mark.parametrize(
    "file, module",
    [
        ("ems_neuron_lif", build_neuron("lif")),
        ("ems_neuron_silu", build_neuron("graded_silu", inplace=False)),
        ("ems_neuron_silu_inplace", build_neuron("graded_silu")),
    ],
)
def test_equals_the_published_neuron_bit_for_bit(golden, file, module):
    g = golden(file)
    x = g["input"].requires_grad_()
    y = module(x)
    y.backward(g["grad_output"])
    assert torch.equal(y, g["eval.output"])
    assert torch.equal(x.grad, g["eval.grad_input"])


@pytest.mark.parametrize("tau, v_threshold, width", [(4 / 3, 0.5, 1.0), (2.0, 1.0, 0.5), (5.0, 0.3, 2.0)])
def test_lif_equals_spikingjelly_off_the_threshold(tau, v_threshold, width):
    torch.manual_seed(0)
    x = torch.randn(6, 4, 50, requires_grad=True)
    theirs = neuron.LIFNode(
        tau=tau, decay_input=False, v_threshold=v_threshold, v_reset=0.0, detach_reset=True, step_mode="m",
        surrogate_function=surrogate.Rect(alpha=1 / width),
    )  # fmt: skip
    ours = build_neuron("lif", tau=tau, v_threshold=v_threshold, surrogate_width=width)
    grad = torch.randn_like(x)
    y, y_sj = ours(x), theirs(x)
    assert torch.equal(y, y_sj) and y.any() and not y.all()
    (a,) = torch.autograd.grad(y, x, grad)
    (b,) = torch.autograd.grad(y_sj, x, grad)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_lif_fires_strictly_above_the_threshold():
    x = torch.tensor([[0.5, 0.5000001, 0.4999999, 1.0]])
    assert build_neuron("lif")(x).tolist() == [[0.0, 1.0, 0.0, 1.0]]


def test_lif_keeps_bits_not_floats_for_backward():
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        build_neuron("lif")(torch.randn(4, 8, requires_grad=True))
    assert [t.dtype for t in saved] == [torch.bool, torch.bool]


def test_specs():
    assert neuron_factory({"name": "lif", "tau": 2.0})().tau == 2.0
    make = neuron_factory("lif")
    assert make() is not make()
    with pytest.raises(ValueError, match="did you mean 'lif'"):
        neuron_factory("lief")
    with pytest.raises(ValueError, match="needs the key 'name'"):
        neuron_factory({"tau": 2.0})
    with pytest.raises(ValueError, match="tau must be above 1"):
        build_neuron("lif", tau=1.0)
