"""Neurons in plain torch: the published dynamics as steps, states of every form, streaming, precision, tracing."""

import copy

import pytest
import torch
from spikingjelly.activation_based import base
from torch import nn

from neurons import StepNeuron, Stream, build_neuron, spike
from neurons.state import tensors_of


class PlainLIF(StepNeuron):
    """The equation of `lif`."""

    def step(self, v, x):
        h = 0.25 * v + x
        s = spike(h - 0.5, "rectangle", inclusive=False)
        return s, h * (1 - s.detach())


class PlainSignedIF(StepNeuron):
    """The equation of `signed_if`."""

    def step(self, v, x):
        h = v + x
        p, n = spike(h - 1.0, "sigmoid"), spike(-h - 10.0, "sigmoid")
        return p - n, h - p + 10.0 * n


class Adaptive(StepNeuron):
    """ALIF: spikes raise the threshold, which decays. A tuple of two states, and a learned parameter."""

    def __init__(self):
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(0.5))

    def initial_state(self, x):
        return torch.zeros_like(x), torch.zeros_like(x)

    def step(self, state, x):
        v, a = state
        s = spike(0.7 * v + x - 1.0 - self.beta * a)
        return s, (0.7 * v + x - s.detach(), 0.9 * a + s)


class SecondOrder(StepNeuron):
    """A synaptic current before the membrane, in a dict; the membrane starts at 0.25."""

    def initial_state(self, x):
        return {"current": torch.zeros_like(x), "v": torch.full_like(x, 0.25)}

    def step(self, state, x):
        current = 0.8 * state["current"] + x
        h = 0.5 * state["v"] + current
        s = spike(h - 1.0, "triangle")
        return s, {"current": current, "v": h - s}


class SignedCorrection(StepNeuron):
    """A negative spike takes back a premature one, as long as one is left: the state holds a count."""

    def initial_state(self, x):
        return torch.full_like(x, 0.5), torch.zeros_like(x, dtype=torch.int64)

    def step(self, state, x):
        v, count = state
        h = v + x
        p = spike(h - 1.0)
        n = ((h < 0) & (count > 0)).to(x.dtype)
        return p - n, (h - p + n, count + p.long() - n.long())


class Burst(StepNeuron):
    """The threshold doubles as long as the neuron fires, and its spikes are worth as much: graded output."""

    spiking = False

    def initial_state(self, x):
        return torch.zeros_like(x), torch.ones_like(x)

    def step(self, state, x):
        v, g = state
        h = v + x
        s = spike(h - g)
        return s * g, (h - s * g, torch.where(s > 0, 2 * g, torch.ones_like(g)))


class Gated(StepNeuron):
    """The recurrent unit of an adaptive sampler: x [B, 2 C, H, W] is gate and current, the output [B, C, H, W]."""

    def __init__(self):
        super().__init__()
        self.recurrent = nn.Conv2d(2, 4, 3, padding=1)

    def initial_state(self, x):
        return tuple(x.new_zeros(len(x), 2, *x.shape[2:]) for _ in range(2))

    def step(self, state, x):
        v, s = state
        gate, current = (x + self.recurrent(s)).chunk(2, 1)
        u = gate.sigmoid() * v + current
        s = spike(u - 1.0, "rectangle", inclusive=False)
        return s, (u * (1 - s), s)


ALL = [PlainLIF, PlainSignedIF, Adaptive, SecondOrder, SignedCorrection, Burst, Gated]


def sequence(T=7, layout=torch.contiguous_format):
    torch.manual_seed(0)
    x = torch.randn(T * 2, 4, 12, 20) + 0.3
    return x.to(memory_format=layout).unflatten(0, (T, 2)).requires_grad_()


@pytest.mark.parametrize("mine, name", [(PlainLIF, "lif"), (PlainSignedIF, "signed_if")])
def test_a_published_equation_as_steps_equals_the_registered_neuron(mine, name):
    x, weights = sequence(), torch.randn(7, 2, 4, 12, 20)
    results = []
    for neuron in (mine(), build_neuron(name)):
        y = neuron(x)
        results.append((y, *torch.autograd.grad((y * weights).sum(), x)))
    assert torch.equal(results[0][0], results[1][0]) and results[0][0].unique().numel() > 1
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cls", ALL)
class TestEveryForm:
    def test_chunks_equal_the_whole_and_no_state_is_left(self, cls):
        torch.manual_seed(1)
        module, x = cls(), sequence()
        whole = module(x)
        weights = torch.randn_like(whole)
        expected = torch.autograd.grad((whole * weights).sum(), [x, *module.parameters()])
        with Stream(module, detach=False):
            chunks = torch.cat([module(chunk) for chunk in (x[:3], x[3:4], x[4:])])
        assert torch.equal(chunks, whole) and whole.any()
        found = torch.autograd.grad((chunks * weights).sum(), [x, *module.parameters()])
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        assert torch.equal(module(x), whole) and module.carried is None

    def test_rows_start_anew_where_they_are_reset(self, cls):
        module, x = cls(), sequence().detach()
        with torch.no_grad(), Stream(module) as stream:
            module(x[:3])
            stream.reset(torch.tensor([True, False]))
            y = module(x[3:])
        whole = module(x)
        assert torch.equal(y[:, 0], module(x[3:])[:, 0]) and torch.equal(y[:, 1], whole[3:, 1])
        assert not torch.equal(y[:, 0], whole[3:, 0])

    def test_detached_chunks_stop_the_gradient(self, cls):
        module, x = cls(), sequence()
        with Stream(module):
            module(x[:3])
            y = module(x[3:])
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert grad[3:].any() and not grad[:3].any()

    def test_computes_in_float32_under_autocast_and_in_float64_for_float64(self, cls):
        module, x = cls(), sequence().detach()
        with torch.autocast("cpu", torch.bfloat16):
            y = module(x.bfloat16())
        assert y.dtype == torch.bfloat16 and torch.equal(y, module(x.bfloat16().float()).bfloat16())
        module = module.double()
        with Stream(module):
            assert module(x.double()).dtype == torch.float64
            assert {s.dtype for s in tensors_of(module.carried) if s.is_floating_point()} == {torch.float64}

    def test_is_a_memory_module_whose_state_is_not_saved(self, cls):
        module, x = cls(), sequence().detach()
        assert isinstance(module, base.MemoryModule) and module.step_mode == "m"
        keys = set(module.state_dict())
        with Stream(module):
            first = module(x)
            assert set(module.state_dict()) == keys and copy.deepcopy(module).carried is None
            module.reset()
            assert torch.equal(module(x), first)

    def test_no_images_and_one_step(self, cls):
        module, x = cls(), sequence()
        y = module(x[:, :0])
        y.sum().backward()
        assert y.shape[:2] == (7, 0) and module(x[:1]).shape[0] == 1

    def test_keeps_the_memory_layout(self, cls):
        x = sequence(layout=torch.channels_last).detach()
        y = cls()(x)
        assert y.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)

    @pytest.mark.skipif(not torch._dynamo.is_dynamo_supported(), reason="torch.compile does not run here")
    def test_compiles_in_one_graph(self, cls):
        torch._dynamo.reset()  # what other tests compiled counts as recompilations of one function
        torch.manual_seed(1)
        module, x = cls(), sequence(3)
        y = torch.compile(module, fullgraph=True, backend="aot_eager")(x)
        expected = module(x)
        assert torch.equal(y, expected)
        (a,), (b,) = (torch.autograd.grad(out.square().sum(), x) for out in (y, expected))
        torch.testing.assert_close(a, b)

    def test_runs_on_shapes_alone(self, cls):
        assert cls().to("meta")(sequence().detach().to("meta")).is_meta


def test_what_cannot_be_streamed_is_named():
    class Shared(StepNeuron):
        def initial_state(self, x):
            return torch.zeros(x.shape[1:])  # one state for all of the batch

        def step(self, state, x):
            return x + state, state

    x = torch.rand(2, 3, 4)
    with Stream(module := Shared()), pytest.raises(ValueError, match=r"Shared: a state of shape \[4\].*batch of \[3\]"):
        module(x)
    with Stream(module := Adaptive()):
        module(x)
        with pytest.raises(ValueError, match=r"carries the state of steps of shape \[3, 4\] but .* is \[2, 4\]"):
            module(x[:, :2])
    for wrong in (torch.zeros(()), torch.zeros(0, 3), torch.zeros(4, 3, dtype=torch.int64)):
        with pytest.raises(ValueError, match="Adaptive needs a floating point input"):
            Adaptive()(wrong)


def test_the_derivative_of_a_spike_is_the_surrogates():
    x = torch.tensor([-0.4, 0.0, 0.6], requires_grad=True)
    s = spike(x, "rectangle", 1.0)
    assert s.tolist() == [0, 1, 1] and spike(x, inclusive=False).tolist() == [0, 0, 1]
    assert torch.autograd.grad(s.sum(), x)[0].tolist() == [1, 1, 0]
    (default,) = torch.autograd.grad(spike(x).sum(), x)
    assert default[1] == 1.0  # atan with alpha 2: alpha / 2 at 0
    with pytest.raises(ValueError, match="did you mean 'atan'"):
        spike(x, "atna")
