"""Learned thresholds: positive through training, and one per channel where that is asked for."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from neurons import build_neuron, list_neurons
from neurons.threshold import FLOOR, positive

LEARNING = [n for n in list_neurons() if hasattr(build_neuron(n), "learned_threshold") and n != "graded_silu"]
PER_CHANNEL = {
    "qcfs": {"name": "qcfs", "L": 4},
    "one_level": {"name": "qcfs", "L": 1},
    "sth": {"name": "sth"},
}


def make(which, **arguments):
    return build_neuron(**PER_CHANNEL[which], **arguments)


def test_a_threshold_is_the_parameter_down_to_the_floor():
    t = torch.tensor([2.0, FLOOR, 0.0, -1e6], requires_grad=True)
    y = positive(t)
    assert y.tolist() == torch.tensor([2.0, FLOOR, FLOOR, FLOOR]).tolist()
    for sign, expected in ((-1.0, [-1, -1, -1, -1]), (1.0, [1, 1, 0, 0])):  # up is open, further down is not
        assert torch.autograd.grad(y, t, torch.full((4,), sign), retain_graph=True)[0].tolist() == expected


@pytest.mark.parametrize("name", LEARNING)
def test_a_threshold_that_training_drives_below_zero_stays_finite_and_comes_back(name):
    torch.manual_seed(0)
    neuron, x = build_neuron(name, learn_threshold=True), torch.rand(3, 2, 4, 5)
    optimizer = torch.optim.SGD(neuron.parameters(), 0.2, 0.5)
    start = neuron.threshold.item()

    def train(goal):
        for _ in range(60):
            optimizer.zero_grad()
            (neuron.learned_threshold() - goal).square().backward()
            optimizer.step()

    train(-3.0)
    assert neuron.threshold < FLOOR and neuron.learned_threshold() == torch.tensor(FLOOR)
    x.requires_grad_()
    y = neuron(x)
    (y * torch.randn_like(y)).sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all() and neuron.threshold.grad.isfinite()
    train(start)
    assert abs(neuron.threshold.item() - start) < 0.1


@pytest.mark.parametrize("arguments", [{}, {"per_channel": True}])
@pytest.mark.parametrize("name", ["qcfs", "sth"])
def test_an_activation_whose_threshold_was_driven_below_zero_learns_again(name, arguments):
    """By its own gradient: it is trained to be -1, which drives the threshold down, then to be its input."""
    torch.manual_seed(0)
    neuron, x = build_neuron(name, v_threshold=0.8, **arguments), torch.rand(1, 8, 3, 4, 4)
    neuron(x)
    optimizer = torch.optim.SGD(neuron.parameters(), 0.1, 0.5)

    def train(goal):
        for _ in range(200):
            optimizer.zero_grad()
            loss = (neuron(x) - goal).square().sum((0, 1, 3, 4)).sum() / x[:, :, 0].numel()
            loss.backward()
            optimizer.step()
        return loss

    train(-torch.ones_like(x))
    assert (neuron.threshold < FLOOR).all() and 0 < neuron(x).abs().max() <= FLOOR
    assert train(x) < 0.01 and (neuron.threshold > 0.5).all()


@pytest.mark.parametrize("start, outside", [(2.0, 0.0), (0.1, 0.0), (0.1, 0.1)])
def test_the_threshold_of_integer_spikes_is_found_from_above_and_from_below(start, outside):
    torch.manual_seed(0)
    x = torch.randn(2, 500)
    wanted = build_neuron("ilif", v_threshold=0.5)(x)
    neuron = build_neuron("ilif", v_threshold=start, learn_threshold=True, outside=outside)
    optimizer = torch.optim.SGD(neuron.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        (neuron(x) - wanted).square().mean().backward()
        optimizer.step()
    assert abs(neuron.threshold.item() - 0.5) < 0.03


@pytest.mark.parametrize("detach_reset", [True, False])
def test_a_threshold_scales_the_gain_and_the_shift_before_the_neuron(detach_reset):
    """Spikes depend on gain / th and shift / th alone, so that th dL/dth = -(gain dL/dgain + shift dL/dshift)."""
    torch.manual_seed(0)
    neuron = build_neuron(
        "ilif", v_threshold=0.8, learn_threshold=True, margin=0.5, outside=0.1, detach_reset=detach_reset
    ).double()
    gain, shift = (torch.rand(6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    y = neuron(torch.randn(5, 4, 6, dtype=torch.float64) * gain * 3 + shift)
    parameters = (gain, shift, neuron.threshold)
    gain_grad, shift_grad, grad = torch.autograd.grad((y * torch.randn_like(y)).sum(), parameters)
    expected = -(gain * gain_grad + shift * shift_grad).sum()
    torch.testing.assert_close(neuron.learned_threshold() * grad, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype, exact", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("which", PER_CHANNEL)
def test_each_channel_is_the_activation_with_that_threshold(which, dtype, exact):
    torch.manual_seed(0)
    th = torch.tensor([0.5, 1.0, 2.5], dtype=dtype)
    neuron, x = make(which, per_channel=True).to(dtype), 2 * torch.randn(2, 4, 3, 8, 9, dtype=dtype)
    neuron.load_state_dict({"threshold": th})
    x.requires_grad_()
    y, weights = neuron(x), torch.randn(x.shape, dtype=dtype)
    gx, gth = torch.autograd.grad((y * weights).sum(), [x, neuron.threshold])
    assert gth.shape == (3,) and gth.all()
    for c in range(3):
        one, xc = make(which, v_threshold=th[c].item()).to(dtype), x[:, :, c].detach().requires_grad_()
        yc = one(xc)
        gxc, gthc = torch.autograd.grad((yc * weights[:, :, c]).sum(), [xc, one.threshold])
        torch.testing.assert_close(y[:, :, c], yc, rtol=exact, atol=exact)
        torch.testing.assert_close(gx[:, :, c], gxc, rtol=exact, atol=exact)
        torch.testing.assert_close(gth[c], gthc, rtol=10 * exact, atol=10 * exact)


@pytest.mark.parametrize("L", [1, 2, 32])
def test_qcfs_per_channel_has_the_gradients_of_its_definition(golden, L):
    g = golden("conv_qcfs_scalar")
    neuron = build_neuron("qcfs", L=L, per_channel=True).double()
    neuron.load_state_dict({"threshold": torch.tensor([1.0, 2.5])})
    z = g["z"].repeat(2, 1)[None, None].requires_grad_()  # [T, B, C, 401]
    y = neuron(z)
    (gz,) = torch.autograd.grad(y.sum(), z, retain_graph=True)
    for c, lam in enumerate((1.0, 2.5)):
        key = f"l{lam}_L{L}"
        torch.testing.assert_close(y[0, 0, c], g[f"h_{key}"], rtol=0, atol=1e-12)
        torch.testing.assert_close(gz[0, 0, c], g[f"strict_gz_{key}"], rtol=0, atol=1e-12)
        for i in range(0, z.shape[-1], 40):
            (glam,) = torch.autograd.grad(y[0, 0, c, i], neuron.threshold, retain_graph=True)
            torch.testing.assert_close(glam[c], g[f"strict_glam_{key}"][i], rtol=1e-9, atol=1e-12)
            assert glam[1 - c] == 0


@pytest.mark.parametrize("name", ["qcfs", "sth"])
def test_per_channel_keeps_shape_dtype_and_layout(name):
    for shape in ((4, 2, 3, 5, 6), (2, 1, 1), (3, 0, 4), (1, 2, 3, 4)):
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            x = torch.randn(shape, dtype=dtype, requires_grad=True)
            y = build_neuron(name, per_channel=True)(x)
            assert y.shape == x.shape and y.dtype == x.dtype
            y.sum().backward()
            assert x.grad.shape == x.shape and x.grad.dtype == dtype
    x = torch.randn(8, 3, 4, 6).to(memory_format=torch.channels_last).unflatten(0, (4, 2))
    neuron = build_neuron(name, per_channel=True)
    assert neuron(x).stride() == x.stride()
    with torch.autocast("cpu", torch.bfloat16):
        y = neuron(x.bfloat16())
    assert y.dtype == torch.bfloat16 and torch.equal(y, neuron(x.bfloat16().float()).bfloat16())
    with pytest.raises(ValueError, match="3 thresholds, but the input has 4 channels"):
        neuron(torch.zeros(1, 1, 4, 2, 2))
    with pytest.raises(ValueError, match=r"needs an input \[T, B, C, ...\], got \[4, 2\]"):
        build_neuron(name, per_channel=True)(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="per_channel = True: needs learn_threshold = True"):
        build_neuron(name, per_channel=True, learn_threshold=False)
    assert "per_channel=True" in repr(neuron)


def test_a_neuron_without_an_input_yet_takes_the_channels_of_a_state_dict_or_of_its_first_input():
    neuron = build_neuron("qcfs", per_channel=True, v_threshold=2.0)
    assert is_lazy(neuron.threshold) and is_lazy(copy.deepcopy(neuron).threshold)
    loaded = build_neuron("qcfs", per_channel=True)
    with torch.inference_mode():
        neuron(torch.zeros(1, 1, 3, 2))
    assert type(neuron.threshold) is nn.Parameter and neuron.threshold.tolist() == [2.0] * 3
    neuron(torch.zeros(1, 1, 3, 2)).sum().backward()  # also after a first call in inference mode
    loaded.load_state_dict(neuron.state_dict())
    assert loaded.threshold.tolist() == [2.0] * 3
    with pytest.raises(RuntimeError, match="size mismatch for threshold"):
        loaded.load_state_dict({"threshold": torch.ones(4)})


@pytest.mark.skipif(not torch._dynamo.is_dynamo_supported(), reason="torch.compile does not run here")
@pytest.mark.parametrize("per_channel", [False, True])
def test_compiles_in_one_graph(per_channel):
    torch._dynamo.reset()  # what other tests compiled counts as recompilations of one function
    neuron, x = build_neuron("qcfs", L=4, per_channel=per_channel), torch.randn(2, 3, 4, 5, requires_grad=True)
    expected = neuron(x)
    y = torch.compile(neuron, fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(y, expected)
    for a, b in zip(
        *(torch.autograd.grad(out.square().sum(), [x, neuron.threshold]) for out in (y, expected)), strict=True
    ):
        torch.testing.assert_close(a, b)
