"""The CUDA kernels on a GPU: the matrix, and how they live with PyTorch's streams, devices, layouts and autocast."""

import pytest
import torch
from matrix import CASES, check
from torch import nn

from neurons import build_neuron
from neurons.multistep import backends, cupy_kernels
from neurons.multistep.dynamics import Dynamics
from neurons.multistep.ops import steps

pytest.importorskip("cupy", reason="need cupy and a CUDA GPU")
if not torch.cuda.is_available():
    pytest.skip("need cupy and a CUDA GPU", allow_module_level=True)

LIF = Dynamics("binary", tau=4 / 3, v_threshold=0.5, v_reset=0.0, surrogate="rectangle", detach_reset=True)
PLIF = Dynamics("binary", tau=2.0, surrogate="atan", alpha=2.0)


def forward_and_gradients(d: Dynamics, x_seq, backend: str, decay=None, threshold=None):
    leaves = [t.detach().clone().requires_grad_() for t in (x_seq, decay, threshold) if t is not None]
    x = leaves[0]
    given = iter(leaves[1:])
    learned = [None if t is None else next(given) for t in (decay, threshold)]
    y, _, _ = steps(x, None, *learned, d.to_json(), True, False, backend)
    weights = torch.linspace(-1, 1, y.numel(), device=y.device).reshape(y.shape).to(y.dtype)
    return y, *torch.autograd.grad((y * weights).sum(), leaves)


def assert_equal(found, expected):
    assert torch.equal(found[0], expected[0])
    for a, b in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=max(1e-5, torch.finfo(a.dtype).eps), atol=1e-5)


def test_auto_takes_the_kernels():
    assert backends.automatic(torch.device("cuda", 0)).name == "cupy"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_formulas(case):
    check(case, cupy_kernels, "cuda", silu=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("d", [LIF, PLIF], ids=["bits", "input"])
def test_channels_last_stays_so(d, dtype):
    x = torch.randn(8, 16, 10, 12, device="cuda").to(dtype, memory_format=torch.channels_last).unflatten(0, (4, 2))
    found, expected = (forward_and_gradients(d, x, backend) for backend in ("cupy", "torch"))
    assert found[0].stride() == found[1].stride() == x.stride()
    assert_equal(found, expected)


def test_more_than_one_turn_of_the_learned_grid_and_a_repeat():
    x = torch.randn(4, 1 << 22, device="cuda")
    decay, threshold = torch.tensor(0.4, device="cuda"), torch.tensor(0.8, device="cuda")
    first, second = (forward_and_gradients(PLIF, x, "cupy", decay, threshold) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    expected = forward_and_gradients(PLIF, x, "torch", decay, threshold)
    for a, b in zip(first[2:], expected[2:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6 * x.numel() ** 0.5)


def test_runs_on_the_current_stream():
    x, expected = torch.zeros(4, 1 << 16, device="cuda"), torch.ones(4, 1 << 16, device="cuda")
    steps(x, None, None, None, LIF.to_json(), False, False, "cupy")  # compiled before it is timed against the wait
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(200_000_000)
        x.fill_(1)
        y, _, _ = steps(x, None, None, None, LIF.to_json(), False, False, "cupy")
    torch.cuda.synchronize()
    assert torch.equal(y, expected)


def test_can_be_captured_in_a_graph():
    x = torch.zeros(4, 1024, device="cuda")
    steps(x, None, None, None, LIF.to_json(), True, False, "cupy")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y, _, _ = steps(x, None, None, None, LIF.to_json(), True, False, "cupy")
    x.fill_(1)
    graph.replay()
    assert y.sum() == y.numel()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="need two CUDA GPUs")
def test_runs_on_the_device_of_its_input():
    x = torch.randn(4, 1000)
    found = [forward_and_gradients(LIF, x.to(device), "cupy") for device in ("cuda:1", "cuda:0", "cuda:1")]
    assert torch.cuda.current_device() == 0
    assert [y.device.index for y, _ in found] == [1, 0, 1]
    for y, grad in found:
        assert_equal((y.cpu(), grad.cpu()), [t.cpu() for t in found[0]])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["lif", "plif", "ilif", "ternary_lif", "graded_silu", "qcfs", "sth"])
def test_autocast_keeps_the_membrane_in_fp32(name, dtype):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, padding=1).cuda()
    x = torch.randn(4, 2, 3, 8, 8, device="cuda")
    results = []
    for backend in ("cupy", "torch"):
        neuron = build_neuron(name, backend=backend).cuda()
        with torch.autocast("cuda", dtype):
            y = neuron(conv(x.flatten(0, 1)).unflatten(0, (4, 2)))
        (grad,) = torch.autograd.grad(y.float().square().sum(), conv.weight)
        results.append((y, grad))
    assert results[0][0].dtype == dtype
    torch.testing.assert_close(results[0], results[1], rtol=0.01, atol=0.01)


def test_float64_is_left_to_the_formulas():
    x = torch.randn(3, 10, device="cuda", dtype=torch.float64)
    assert backends.choose("auto", x).name == "torch"
    with pytest.raises(RuntimeError, match="float64"):
        backends.choose("cupy", x)
