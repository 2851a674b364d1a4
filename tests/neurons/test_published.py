"""The neurons equal the published code, bit for bit where it is in float32."""

import pytest
import torch

from neurons import Stream, build_neuron

HARD = {"v_reset": 0.0}
SOFT = {"v_reset": None}
ATAN2 = {"surrogate": {"name": "atan", "alpha": 2.0}}
SIGMOID4 = {"surrogate": {"name": "sigmoid", "alpha": 4.0}}


NEURONS = [
    ("ems_neuron_lif", "lif", {}),
    ("ems_neuron_silu_inplace", "graded_silu", {}),
    ("spikeyolo_ilif_D4", "ilif", {}),
    ("spikeyolo_gen1_ilif_D4", "ilif", {"tau": 2.0, "decay_input": True}),
]
MORE = [
    ("ems_neuron_silu", "graded_silu", {"inplace": False}),
    ("spikeyolo_ilif_D1", "ilif", {"D": 1}),
    ("spikeyolo_ilif_D2", "ilif", {"D": 2}),
    ("spikeyolo_ilif_D8", "ilif", {"D": 8}),
]
TERNARY = [
    (f"sj2_ternary_{form}_{surrogate}", name, arguments | alpha)
    for surrogate, alpha in {"atan2": ATAN2, "sigmoid4": SIGMOID4}.items()
    for form, name, arguments in (
        ("if_hard", "ternary_if", HARD),
        ("if_soft", "ternary_if", SOFT),
        ("lif_hard_tau2", "ternary_lif", {}),
        ("lif_hard_tau4_3_nodecay", "ternary_lif", {"tau": 4 / 3, "decay_input": False}),
    )
]
# Compiling takes a second: each form and each surrogate once. That compiled code equals eager code is tested in
# test_formulas.py.
COMPILED = [TERNARY[i] for i in (0, 5, 2, 7)]


@pytest.mark.parametrize(
    "file, name, arguments, backend", [(*n, "torch") for n in NEURONS + MORE] + [(*n, "compile") for n in NEURONS]
)
def test_ems_yolo_and_spikeyolo(golden, file, name, arguments, backend):
    g = golden(file)
    x = g["input"].requires_grad_()
    y = build_neuron(name, backend=backend, **arguments)(x)
    y.backward(golden.grad_output(y))
    if name == "graded_silu" and backend == "compile":  # another exp, another last bit
        torch.testing.assert_close(y, g["eval.output"], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(x.grad, g["eval.grad_input"], rtol=1e-5, atol=1e-6)
    elif name == "graded_silu":
        assert torch.equal(y, g["eval.output"])
        torch.testing.assert_close(x.grad, g["eval.grad_input"], rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(y, g["eval.output"]) and torch.equal(x.grad, g["eval.grad_input"])


@pytest.mark.parametrize("backend", ["torch", "compile"])
@pytest.mark.parametrize("file", ["eas_plif_train", "eas_plif_eval"])
def test_eas_snn(golden, file, backend):
    g = golden(file)
    module, x = build_neuron("plif", backend=backend), g["x"].requires_grad_()
    module.load_state_dict({"w": g["w"]})
    y = module(x)
    y.backward(g["grad_out"])
    assert torch.equal(y, g["y"])
    torch.testing.assert_close(x.grad, g["grad_x"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(module.w.grad, g["grad_w"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "file, name, arguments, backend", [(*n, "torch") for n in TERNARY] + [(*n, "compile") for n in COMPILED]
)
def test_ternary(golden, file, name, arguments, backend):
    g = golden(file)
    x = g["x"].requires_grad_()
    y = build_neuron(name, backend=backend, **arguments)(x)
    y.backward(g["grad_out"])
    assert torch.equal(y, g["y"])
    torch.testing.assert_close(x.grad, g["grad_x"], rtol=1e-5, atol=1e-6)


def test_the_signed_neuron_of_spiking_yolox_as_released_is_a_binary_one(golden):
    g = golden("syx_signed_if_as_released_train")
    neuron, x = build_neuron("if", **HARD, **SIGMOID4), g["x"].requires_grad_()
    with Stream(neuron, detach=False):
        y = neuron(x)
        y.backward(g["grad_out"])
        assert torch.equal(neuron.carried, g["v_last"])
    assert torch.equal(y, g["y"]) and set(y.unique().tolist()) == {0.0, 1.0} and x.min() < -1
    torch.testing.assert_close(x.grad, g["grad_x"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("slope", [0.1, 0.01])
@pytest.mark.parametrize("T", [64, 256, 1024, 4096])
def test_imbalanced_thresholds(golden, slope, T):
    g = golden("conv_ibt")
    rate = build_neuron("signed_if", negative_slope=slope)(g["x"].expand(T, -1)).mean(0)
    torch.testing.assert_close(rate, g[f"rate_a{slope:g}_T{T}"], rtol=0, atol=1e-12)
    leaky = build_neuron("leaky_relu", negative_slope=slope)(g["x"]).clamp(-1, 1)
    assert (rate - leaky).abs().max() <= 1 / T + 1e-9


@pytest.mark.parametrize("lam", [1.0, 2.5])
@pytest.mark.parametrize("L", [1, 2, 4, 8, 16, 32])
def test_qcfs_and_the_neuron_it_becomes(golden, lam, L):
    g = golden("conv_qcfs_scalar")
    key, module = f"l{lam}_L{L}", build_neuron("qcfs", L=L, v_threshold=lam)
    module.double()
    z = g["z"][None].clone().requires_grad_()
    y = module(z)
    torch.testing.assert_close(y[0], g[f"h_{key}"], rtol=0, atol=1e-12)
    (gz,) = torch.autograd.grad(y.sum(), z, retain_graph=True)
    torch.testing.assert_close(gz[0], g[f"strict_gz_{key}"], rtol=0, atol=1e-12)
    for i in range(0, z.shape[1], 40):  # the gradient of lambda adds up over elements: one at a time
        (glam,) = torch.autograd.grad(y[0, i], module.threshold, retain_graph=True)
        torch.testing.assert_close(glam, g[f"strict_glam_{key}"][i], rtol=1e-9, atol=1e-12)
    fired = build_neuron("if", v_threshold=lam, v_init=lam / 2)(g["z"].expand(L, -1)).mean(0)
    torch.testing.assert_close(lam * fired, g[f"h_{key}"], rtol=0, atol=1e-12)


def test_qcfs_with_one_level_trains():
    x = torch.linspace(-2, 6, 101).requires_grad_()
    build_neuron("qcfs", L=1)(x[None]).sum().backward()
    assert (x.grad == ((x >= -2) & (x < 2))).all()


def test_sth_is_what_the_signed_neuron_fires_at():
    x = torch.linspace(-60, 6, 241, dtype=torch.float64)
    activation = build_neuron("sth", v_threshold=4.0).double()(x[None])[0]
    fired = 4.0 * build_neuron("signed_if", v_threshold=4.0)(x.expand(2000, -1)).mean(0)
    assert (fired - activation).abs().max() <= 4.0 / 2000 + 1e-9


def test_lif_fires_strictly_above_the_threshold_unless_told_otherwise():
    x = torch.tensor([[0.5, 0.5000001, 0.4999999, 1.0]])
    assert build_neuron("lif")(x).tolist() == [[0.0, 1.0, 0.0, 1.0]]
    assert build_neuron("lif", fires_at_threshold=True)(x).tolist() == [[1.0, 1.0, 0.0, 1.0]]
