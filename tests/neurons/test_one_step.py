"""One step after the other in inference mode, in place: the same bits as all steps at once."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from neurons import Stream, build_neuron

NEURONS = {
    "if": {},
    "half": {"name": "if", "v_init": 0.5},
    "strict": {"name": "if", "fires_at_threshold": False},
    "signed_if": {},
    "slope": {"name": "signed_if", "negative_slope": 0.3, "v_init": -0.25},
}


def make(which):
    return build_neuron(**{"name": which, **NEURONS[which]})


def sequence(layout=torch.contiguous_format, dtype=torch.float32, T=40):
    torch.manual_seed(0)
    x = torch.randn(T * 2, 4, 6, 5, dtype=dtype).mul(1.5).to(memory_format=layout).unflatten(0, (T, 2))
    x[:, :, 0] = torch.linspace(-4, 1.5, 60, dtype=dtype).view(2, 6, 5)  # constant currents
    x[:, :, 1] = (4 * x[:, :, 1]).round() / 4  # potentials that meet the thresholds
    return x


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("which", NEURONS)
def test_equals_all_steps_at_once(which, layout, dtype):
    neuron, x = make(which), sequence(layout, dtype)
    before = x.clone()
    expected = neuron(x)
    with Stream(neuron):
        steps, membranes = [], set()
        for t in range(len(x)):
            steps.append(neuron(x[t : t + 1]))
            membranes.add(neuron.carried.data_ptr())
            assert steps[-1].stride()[1:] == x.stride()[1:] and steps[-1].dtype == dtype
        v = neuron.carried.clone()
    assert torch.equal(torch.cat(steps), expected) and torch.equal(x, before)
    assert len(membranes) == 1  # one memory
    with Stream(neuron):
        neuron(x)
        assert torch.equal(neuron.carried, v)
    assert set(expected.unique().tolist()) == ({0, 1} if neuron.dynamics.emit == "binary" else {-1, 0, 1})


@torch.inference_mode()
def test_infinite_and_undefined_currents_are_those_of_the_formulas():
    for which in NEURONS:
        neuron, x = make(which), torch.zeros(3, 1, 4)
        x[1, 0, :3] = torch.tensor([torch.inf, -torch.inf, torch.nan])
        expected = neuron(x)
        with Stream(neuron):
            found = torch.cat([neuron(step[None]) for step in x])
        assert torch.equal(found.nan_to_num(7.0), expected.nan_to_num(7.0))


@torch.inference_mode()
def test_rows_that_start_anew_and_chunks_of_other_lengths():
    neuron, x = make("half"), sequence()
    with Stream(neuron) as stream:
        y = [neuron(x[:1]), neuron(x[1:2]), neuron(x[2:6]), neuron(x[6:7]), neuron(x[7:8])]
        assert torch.equal(torch.cat(y), make("half")(x[:8]))
        stream.reset(torch.tensor([True, False]))
        later = torch.cat([neuron(x[t : t + 1]) for t in range(8, 12)])
    assert torch.equal(later[:, 0], neuron(x[8:12])[:, 0]) and torch.equal(later[:, 1], neuron(x[:12])[8:, 1])
    with Stream(neuron) as stream:
        neuron(x[:1]), neuron(x[1:2])
        with pytest.raises(ValueError, match="keep the batch as it is"):
            neuron(x[:1, :1])
        stream.reset()
        assert torch.equal(neuron(x[:1]), y[0])


def test_what_a_gradient_needs_is_not_overwritten():
    neuron, x = make("if"), sequence().requires_grad_()
    expected = torch.autograd.grad(neuron(x[:4]).sum(), x)[0]
    with Stream(neuron, detach=False):
        y = [neuron(x[:1]), neuron(x[1:2]), neuron(x[2:3]), neuron(x[3:4])]
        with torch.no_grad():
            held = neuron.carried.clone()
            carried = neuron.carried
            neuron(x[4:5])
            assert torch.equal(carried, held)
        with torch.inference_mode():
            neuron(x[5:6])
            neuron(x[6:7])
    torch.testing.assert_close(torch.autograd.grad(torch.cat(y).sum(), x)[0], expected)


def test_inference_mode_may_come_and_go_within_a_stream():
    neuron, x = make("if"), sequence()
    expected = neuron(x)
    with Stream(neuron):
        y = []
        for t in range(len(x)):
            with torch.inference_mode(t % 7 > 2), torch.no_grad():
                y.append(neuron(x[t : t + 1]).clone())
    assert all(torch.equal(a, b) for a, b in zip(y, expected[:, None], strict=True))


@torch.inference_mode()
def test_operators_that_are_counted_are_still_one_per_neuron():
    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    neuron, x, seen = make("if"), sequence(), []
    with Stream(neuron):
        expected = neuron(x[:2])[1:]
    with Stream(neuron):
        neuron(x[:1])
        with Names():
            y = neuron(x[1:2])
    assert "spikesight.steps.default" in seen and torch.equal(y, expected)


@torch.inference_mode()
def test_copies_hold_no_membrane_and_another_thread_changes_none():
    neuron, x = make("if"), sequence()
    with Stream(neuron):
        neuron(x[:1]), neuron(x[1:2])
        assert copy.deepcopy(neuron).carried is None
        held = neuron.carried.clone()

        def other_thread():
            with torch.inference_mode():
                neuron(x[2:3])

        with pytest.raises(RuntimeError, match="another thread"):
            ThreadPoolExecutor(1).submit(other_thread).result()
        assert torch.equal(neuron.carried, held)
    assert torch.equal(neuron(x[:1]), neuron(x[:1])) and neuron.carried is None
