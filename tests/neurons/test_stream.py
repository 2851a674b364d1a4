"""States carried from call to call: chunks of a recording give the output and gradients of the whole."""

import copy
import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn
from torch.optim.swa_utils import AveragedModel

from models import create_model
from neurons import MultiStepNeuron, StatefulNeuron, StepNeuron, Stream, build_neuron, list_neurons

CARRYING = [n for n in list_neurons() if isinstance(build_neuron(n), StatefulNeuron) and not build_neuron(n).memoryless]


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

    with pytest.raises(ValueError, match="1: Forgetful does not give out its state.*derive it from neurons.StepNeuron"):
        Stream(nn.Sequential(build_neuron("lif"), Forgetful()))
    with Stream(nn.Sequential(build_neuron("relu"), build_neuron("qcfs"))) as stream:
        assert not stream.neurons


class StepNet(nn.Sequential):
    """[T, B, 3, H, W]: a neuron, a convolution, a neuron."""

    def forward(self, x):
        first, conv, last = self
        return last(conv(first(x).flatten(0, 1)).unflatten(0, x.shape[:2]))


def step_net():
    torch.manual_seed(0)
    return StepNet(build_neuron("if"), nn.Conv2d(3, 3, 1), build_neuron("if"))


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


def averaged(model):
    return AveragedModel(model, use_buffers=True).module


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("make_copy", [copy.deepcopy, pickled, saved, averaged])
def test_copies_of_a_streamed_model_start_from_rest_and_stay_out(make_copy, detach):
    model, x = step_net(), torch.rand(2, 1, 3, 4, 4)
    with torch.no_grad():
        at_rest, rest_of_two = model(x), model(torch.cat([x, x]))[2:]
    assert not torch.equal(at_rest, rest_of_two)
    with Stream(model, detach) as stream:
        model(x)
        twin = make_copy(model)
        assert torch.equal(twin(x), at_rest) and torch.equal(twin(x), at_rest)
        with Stream(twin):  # and can be streamed on its own
            twin(x)
            assert torch.equal(twin(x), rest_of_two)
        assert torch.equal(model(x), rest_of_two)
        stream.reset()
    assert torch.equal(twin(x), at_rest) and torch.equal(model(x), at_rest)
    assert not model._forward_pre_hooks and not model._forward_hooks and not model[0]._forward_hooks


def test_a_call_from_another_thread_raises_and_changes_nothing():
    model, x = step_net(), torch.rand(2, 1, 3, 4, 4)
    with torch.no_grad():
        whole, at_rest = model(torch.cat([x, x])), model(x)

    def call(part=model):
        return ThreadPoolExecutor(1).submit(part, x).result()

    with Stream(model):
        first = model(x)
        for part in (model, model[0], model[2]):
            with pytest.raises(RuntimeError, match=r"in a Stream that another thread opened.*copy\.deepcopy\(model\)"):
                call(part)
        assert torch.equal(torch.cat([first, model(x)]), whole)
    assert torch.equal(call(), at_rest)


def test_a_call_that_began_before_another_thread_opened_a_stream_raises():
    """It would else go on from the membranes of the stream, half-way through the network."""
    model, x = step_net(), torch.rand(2, 1, 3, 4, 4)
    entered, reached = threading.Event(), threading.Event()

    def wait(*_):
        reached.set()
        assert entered.wait(30)

    handle = model[1].register_forward_hook(wait)
    future = ThreadPoolExecutor(1).submit(model, x)
    assert reached.wait(30)
    handle.remove()
    with Stream(model):
        entered.set()
        with pytest.raises(RuntimeError, match="another thread opened"):
            future.result()
        assert model[2].carried is None


@pytest.mark.parametrize("where", ["half-way", "at the end"])
def test_a_failed_call_must_be_followed_by_a_reset(where):
    model, x = step_net(), torch.rand(2, 1, 3, 4, 4)
    part = model[1] if where == "half-way" else model

    def fail(*_):
        raise KeyboardInterrupt

    with torch.no_grad():
        at_rest = model(x)
    with Stream(model) as stream:
        model(x)
        handle = part.register_forward_hook(fail, prepend=True)
        with pytest.raises(KeyboardInterrupt):
            model(x)
        handle.remove()
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"failed half-way.*stream\.reset\(\)"):
                model(x)
        stream.reset()
        assert torch.equal(model(x), at_rest)


@pytest.mark.parametrize("fails", ["network", "head"])
def test_a_detector_that_failed_half_way_in_raw(fails):
    model, x = create_model("ems_resnet10_ee", num_classes=2, T=1, width=0.125).eval(), torch.rand(1, 1, 3, 32, 32)

    def fail(*_):
        raise MemoryError("out of memory")

    last = getattr(model, fails)
    with torch.no_grad(), Stream(model) as stream:
        expected = model.raw(x)
        handle = last.register_forward_hook(fail, prepend=True)
        with pytest.raises(MemoryError):
            model.raw(x)
        handle.remove()
        with pytest.raises(RuntimeError, match="failed half-way"):
            model.raw(x)
        stream.reset()
        assert all(torch.equal(a, b) for a, b in zip(model.raw(x), expected, strict=True))


def test_a_call_that_failed_before_any_membrane_changed_costs_nothing():
    model, x = step_net(), torch.rand(2, 1, 3, 4, 4)
    with torch.no_grad():
        whole = model(torch.cat([x, x]))
    with Stream(model):
        first = model(x)
        with pytest.raises(ValueError, match="floating point"):
            model(x.long())
        assert torch.equal(torch.cat([first, model(x)]), whole)


def test_a_stream_that_could_not_be_opened_leaves_nothing_open():
    model = step_net()
    with Stream(model[2]), pytest.raises(RuntimeError, match="streamed already"), Stream(model):
        pass
    with Stream(model):
        assert model[0].stream is model[2].stream


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stream_that_is_saved_continues(processes, tmp_path):
    """In another process, of rows of a batch that were in one or two; states of all forms."""
    torch.manual_seed(0)
    model = nn.Sequential(build_neuron("lif", tau=2.0), TwoStates(), build_neuron("plif"))
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1)) * 2
    parts, after = [], []
    for rows in torch.arange(4).chunk(processes):
        with Stream(model) as stream:
            model(x[:, rows])
            torch.save(stream.state(), tmp_path / "state.pt")
            parts.append(torch.load(tmp_path / "state.pt", weights_only=True))
            after.append(model(x[:, rows]))
    whole = torch.cat(after, 1)
    with Stream(model) as stream:
        assert not torch.equal(model(x), whole)
        for rows in (slice(0, 4), slice(1, 3)):
            stream.restore(parts, rows, torch.device("cpu"))
            assert torch.equal(model(x[:, rows]), whole[:, rows])
        with pytest.raises(ValueError, match=r"states of \[2\] neurons, but the model has 3"):
            stream.restore([parts[0][:2]], slice(0, 2), torch.device("cpu"))


def test_the_state_of_a_stream_that_has_not_run_is_the_initial_one():
    model = nn.Sequential(build_neuron("lif", tau=2.0))
    x = torch.ones(2, 1, 3)
    with Stream(model) as stream:
        saved = stream.state()
        fresh = model(x)
        stream.restore([saved], slice(0, 1), torch.device("cpu"))
        assert saved == [None] and torch.equal(model(x), fresh)


class TwoStates(StepNeuron):
    """Adds up its inputs and counts its steps."""

    def initial_state(self, x):
        return {"sum": torch.zeros_like(x), "steps": torch.zeros(len(x), dtype=torch.int64)}

    def step(self, state, x):
        total, steps = state["sum"] + x, state["steps"] + 1
        return total / steps[:, None], {"sum": total, "steps": steps}
