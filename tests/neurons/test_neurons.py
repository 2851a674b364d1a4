"""Every registered neuron keeps the contract."""

import inspect
import math

import pytest
import torch
from spikingjelly.activation_based import base, functional

from neurons import DynamicNeuron, build_neuron, list_neurons, neuron_factory


def test_the_published_names_are_there():
    names = "lif plif if ilif ternary_if ternary_lif signed_if corrected_if qcfs sth graded_silu relu leaky_relu silu"
    assert set(names.split()) <= set(list_neurons())


@pytest.mark.parametrize("name", list_neurons())
class TestEveryNeuron:
    def test_keeps_shape_dtype_and_layout(self, name):
        for shape in ((4, 2, 3, 5, 6), (1, 2), (3, 0, 4), (3,), (2, 1, 1)):
            for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
                x = torch.randn(shape, dtype=dtype, requires_grad=True)
                y = build_neuron(name)(x)
                assert y.shape == x.shape and y.dtype == x.dtype
                y.sum().backward()
                assert x.grad.shape == x.shape and x.grad.dtype == dtype
        x = torch.randn(8, 3, 4, 6).to(memory_format=torch.channels_last).unflatten(0, (4, 2)).requires_grad_()
        y = build_neuron(name)(x)
        assert y.stride() == x.stride()
        (grad,) = torch.autograd.grad(y, x, torch.ones_like(x))
        assert grad.stride() == x.stride()

    def test_a_step_repeated_without_a_copy_and_a_step_that_is_not_dense(self, name):
        once, part = torch.randn(2, 3, 5), torch.randn(4, 2, 6, 5)[..., ::2, :]
        run = build_neuron(name)
        torch.testing.assert_close(run(once.expand(4, -1, -1, -1)), run(once.repeat(4, 1, 1, 1)), rtol=1e-6, atol=0)
        torch.testing.assert_close(run(part), run(part.contiguous()), rtol=1e-6, atol=0)

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

    def test_runs_on_shapes_alone(self, name):
        """On the meta device: shapes and dtypes without data, in both directions."""
        x = torch.randn(4, 2, 3, 5, device="meta", requires_grad=True)
        y = build_neuron(name).to("meta")(x)
        y.sum().backward()
        assert y.is_meta and y.shape == x.shape == x.grad.shape and y.dtype == x.dtype

    def test_membrane_is_float32_under_autocast(self, name):
        x = torch.randn(8, 512).bfloat16()
        module = build_neuron(name)
        with torch.autocast("cpu", torch.bfloat16):
            y = module(x)
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(y, module(x.float()).bfloat16(), rtol=0, atol=0)

    def test_emits_what_it_says(self, name):
        module = build_neuron(name)
        values = set(module(torch.randn(8, 1000) * 5).unique().tolist())
        if isinstance(module, DynamicNeuron):
            d = module.dynamics
            allowed = {"binary": {0, 1}, "ternary": {-1, 0, 1}, "integer": set(range(d.levels + 1))}
            assert module.spiking == (d.emit in allowed) and (not module.spiking or values == allowed[d.emit])
        elif module.spiking:  # real values say `spiking = False`, or they would be counted as spikes
            assert 0.0 in values and 2 <= len(values) <= 256

    def test_every_argument_has_a_default_and_a_wrong_one_is_named(self, name):
        arguments = list(inspect.signature(type(build_neuron(name))).parameters)
        with pytest.raises(ValueError, match="has no argument 'tua'" + (".*'tau'" if "tau" in arguments else "")):
            build_neuron(name, tua=2.0)

    def test_learned_parameters_get_their_gradient(self, name):
        accepted = inspect.signature(type(build_neuron(name))).parameters
        learned = [option for option in ("learn_threshold", "learn_tau") if option in accepted]
        module = build_neuron(name, **dict.fromkeys(learned, True))
        if isinstance(module, DynamicNeuron):
            assert len(list(module.parameters())) == len(learned) + (name == "plif")
        x = torch.randn(4, 300).mul(5).requires_grad_()
        module(x).square().sum().backward()
        for parameter in module.parameters():
            assert parameter.grad.isfinite().all() and parameter.grad.any()
            assert parameter.dim() == 0 or not isinstance(module, DynamicNeuron)


def test_specs():
    assert neuron_factory({"name": "lif", "tau": 2.0})().dynamics.tau == 2.0
    make = neuron_factory("lif")
    assert make() is not make()
    with pytest.raises(ValueError, match="did you mean 'lif'"):
        neuron_factory("lief")
    with pytest.raises(ValueError, match="with the key 'name'"):
        neuron_factory({"tau": 2.0})


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("lif", {"tau": 1.0}, "tau must be above 1"),
        ("lif", {"tau": math.nan}, "tau must be above 1"),
        ("plif", {"init_tau": 0.5}, "tau must be above 1"),
        ("lif", {"v_threshold": 0.0}, "v_threshold must be positive"),
        ("lif", {"v_reset": 0.5}, "v_reset must lie below v_threshold"),
        ("ilif", {"D": 0}, "levels must be a positive integer"),
        ("ilif", {"D": 2.5}, "levels must be a positive integer"),
        ("qcfs", {"L": -1}, "levels must be a positive integer"),
        ("signed_if", {"negative_slope": 0.0}, "negative_slope"),
        ("corrected_if", {"v_threshold": 0.0}, "v_threshold must be positive"),
        ("sth", {"negative_slope": 2.0}, "negative_slope"),
        ("leaky_relu", {"negative_slope": -0.1}, "negative_slope"),
        ("lif", {"surrogate": "rectangel"}, "did you mean 'rectangle'"),
        ("lif", {"surrogate": {"name": "atan", "width": 2}}, "has no argument 'width'"),
        ("lif", {"surrogate": {"name": "atan", "alpha": -2.0}}, "alpha must be a positive number"),
        ("lif", {"surrogate": {"name": "atan", "outside": 2}}, "outside must be a number from 0 to 1"),
        ("lif", {"surrogate": {"name": "atan", "outside": "a"}}, "outside must be a number from 0 to 1"),
        ("lif", {"surrogate": {"alpha": 2.0}}, "a mapping with 'name'"),
        ("lif", {"tau": math.inf, "learn_tau": True}, "learn_tau = True: needs a finite tau"),
        ("ilif", {"outside": -0.1}, "outside must be a number from 0 to 1"),
        ("ilif", {"margin": math.nan}, "margin must be at least 0"),
        ("lif", {"backend": "triton"}, "unknown backend 'triton'"),
    ],
)
def test_arguments_outside_the_equations_are_named(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_neuron(name, **arguments)


@pytest.mark.parametrize("x", [torch.zeros(()), torch.zeros(0, 3), torch.zeros(4, 3, dtype=torch.int64)])
def test_input_without_time_or_of_integers_is_refused(x):
    with pytest.raises(ValueError, match="floating point input"):
        build_neuron("lif")(x)
