"""Which backend runs, what is said about it, and what happens where one cannot."""

import logging

import pytest
import torch

from neurons import build_neuron
from neurons.multistep import backends, compiled, eager
from neurons.multistep.dynamics import Dynamics

CPU = torch.device("cpu")
SMALL = 1 << 12
LARGE = torch.randn(4, SMALL)


@pytest.fixture
def untried(monkeypatch):
    """Nothing tried yet, and nothing remembered after."""
    monkeypatch.setattr(backends, "SMALL", SMALL)
    backends.automatic.cache_clear(), backends.tried.cache_clear()
    yield
    backends.automatic.cache_clear(), backends.tried.cache_clear()


def test_all_backends_give_the_same(untried):
    for name in ("lif", "ternary_if"):
        x = torch.randn(4, SMALL, requires_grad=True)
        results = []
        for backend in ("torch", "compile", "auto"):
            y = build_neuron(name, backend=backend)(x)
            results.append((y, *torch.autograd.grad(y, x, LARGE)))
        for y, grad in results[1:]:
            assert torch.equal(y, results[0][0])
            torch.testing.assert_close(grad, results[0][1], rtol=1e-5, atol=1e-6)


def test_auto_says_once_what_it_took(untried, caplog):
    caplog.set_level(logging.INFO, "neurons")
    for _ in range(2):
        build_neuron("lif")(LARGE)
    assert [r.message for r in caplog.records if r.name.startswith("neurons")] == ["neurons on cpu: backend compile"]


def test_auto_falls_back_and_says_why(untried, caplog, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no compiler: g++ not found\nand more")

    monkeypatch.setattr(compiled, "forward", broken)
    caplog.set_level(logging.INFO, "neurons")
    build_neuron("lif")(LARGE)
    assert [r.message for r in caplog.records if r.name.startswith("neurons")] == [
        "neurons on cpu: backend torch; not compile: RuntimeError: no compiler: g++ not found"
    ]
    with pytest.raises(RuntimeError, match="backend='compile' cannot run on cpu: RuntimeError: no compiler"):
        build_neuron("lif", backend="compile")(LARGE)


def test_a_backend_with_wrong_results_is_not_taken(untried, monkeypatch):
    def wrong(d, x_seq, *arguments):
        y, *rest = eager.forward(d, x_seq, *arguments)
        return 1 - y, *rest

    monkeypatch.setattr(compiled, "forward", wrong)
    assert backends.tried("compile", CPU) == "its results on a test call are wrong"
    assert backends.choose("auto", LARGE) is backends.TORCH


def test_auto_survives_dynamics_that_a_backend_fails_on(untried, caplog, monkeypatch):
    works, bad = compiled.forward, build_neuron("ilif").dynamics

    def fails_on_some(d, *arguments):
        if d == bad:
            raise RuntimeError("disk full")
        return works(d, *arguments)

    monkeypatch.setattr(compiled, "forward", fails_on_some)
    y = [build_neuron("ilif")(LARGE) for _ in range(2)]
    assert torch.equal(y[0], build_neuron("ilif", backend="torch")(LARGE)) and torch.equal(y[0], y[1])
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING and r.name.startswith("neurons")]
    assert len(warnings) == 1 and "in place of compile" in warnings[0] and "disk full" in warnings[0]


def test_out_of_memory_is_not_hidden(untried):
    def out_of_memory(*arguments):
        raise torch.OutOfMemoryError("out of memory")

    run = backends.or_eager(backends.Backend("compile", out_of_memory, out_of_memory))
    with pytest.raises(torch.OutOfMemoryError):
        run.forward(Dynamics("qcfs"), LARGE, None, None, None, False, False)


def test_cupy_needs_a_cuda_tensor():
    with pytest.raises(RuntimeError, match="cannot run on cpu.*needs a CUDA tensor, this one is on cpu"):
        build_neuron("lif", backend="cupy")(torch.randn(4, 3))


def test_small_tensors_and_float64_need_no_kernels(monkeypatch):
    few = backends.Backend("cupy", eager.forward, eager.backward, (torch.float32,))
    monkeypatch.setattr(backends, "SMALL", SMALL)
    monkeypatch.setattr(backends, "automatic", lambda device: few)
    assert backends.choose("auto", torch.zeros(4, 3)) is backends.TORCH
    assert backends.choose("auto", LARGE) is few and backends.choose("auto", LARGE.double()) is backends.TORCH
