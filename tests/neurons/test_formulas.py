"""The written-out formulas against plain autograd, over dynamics x surrogate x reset x detach x learned x T."""

import dataclasses
import itertools
import math

import pytest
import torch

from neurons.multistep import compiled, eager, formulas
from neurons.multistep.dynamics import Dynamics
from neurons.multistep.reference import reference

SPIKING = [
    Dynamics(emit, tau=tau, decay_input=decay_input, v_threshold=0.7, v_reset=v_reset, v_init=v_init,
             surrogate=surrogate, alpha=alpha, outside=0.15 if tau == 3 else 0.0, detach_reset=detach,
             inclusive=inclusive, negative=negative)
    for emit, negative in (("binary", 1.0), ("ternary", 1.0), ("ternary", 10.0))
    for tau, decay_input, inclusive in ((math.inf, False, True), (4 / 3, False, emit != "binary"), (3.0, True, True))
    for v_reset, v_init in ((0.0, 0.0), (-0.25, -0.25), (None, 0.35))
    for surrogate, alpha in (("rectangle", 0.6), ("triangle", 1.0), ("atan", 2.0), ("sigmoid", 4.0))
    for detach in (True, False)
]  # fmt: skip
OTHERS = [
    *(Dynamics("integer", tau=tau, decay_input=tau == 2, v_threshold=th, detach_reset=detach, levels=D,
               margin=margin, outside=outside)
      for (tau, th, D, margin, outside), detach in itertools.product(
          [(4 / 3, 1.0, 4, 0, 0), (2.0, 1.0, 4, 0, 0), (3.0, 0.6, 1, 0, 0), (4 / 3, 1.0, 4, 0.7, 0.15),
           (2.0, 0.6, 2, 0, 0.15)], [True, False])),
    *(Dynamics("silu", tau=4 / 3, carries_output=carries) for carries in (True, False)),
    *(Dynamics("qcfs", v_threshold=1.5, levels=L) for L in (1, 4)),
    Dynamics("sth", v_threshold=1.5, slope=0.1),
]  # fmt: skip


def label(d: Dynamics) -> str:
    return d.describe().replace(", ", " ")


def gradients(d, x, grad_y, grad_v, v, decay, threshold):
    """By autograd through the reference: y, v_last, and the gradients of x, v, decay, threshold."""
    given = [t.clone().requires_grad_() if t is not None else None for t in (x, v, decay, threshold)]
    y, v_last = reference(d, *given)
    asked = [t for t in given if t is not None]
    outputs, grads = [y], [grad_y]
    if grad_v is not None:
        outputs.append(v_last)
        grads.append(grad_v)
    found = iter(torch.autograd.grad(outputs, asked, grads, allow_unused=True))
    return y.detach(), v_last.detach(), [None if t is None else next(found) for t in given]


def agree(a, b, d):
    assert a.shape == b.shape
    torch.testing.assert_close(
        a, b, rtol=1e-5, atol=1e-5 * max([1.0, *b.abs().flatten().tolist()]), msg=lambda m: f"{d}: {m}"
    )


@pytest.mark.parametrize("d", SPIKING + OTHERS, ids=label)
def test_forward_is_the_reference_bit_for_bit_and_gradients_agree(d):
    torch.manual_seed(0)
    for T, learned, streams in (
        *itertools.product((5,), ("", "decay", "threshold", "both"), (False, True)),
        *itertools.product((1, 2, 9), ("",), (False,)),  # 9: windows of one bit fill more than a byte
        *itertools.product((1, 2, 9), ("both",), (True,)),
    ):
        decay = torch.tensor(0.4) if learned in ("decay", "both") else None
        threshold = torch.tensor(d.v_threshold) if learned in ("threshold", "both") else None
        if d.emit in ("silu", "qcfs", "sth") and (decay is not None or (d.emit == "silu" and threshold is not None)):
            continue
        if streams and d.memoryless:
            continue
        x, grad_y = 1.5 * torch.randn(T, 60), torch.randn(T, 60)
        v, grad_v = (torch.randn(60), torch.randn(60)) if streams else (None, None)
        y0, v0, expected = gradients(d, x, grad_y, grad_v, v, decay, threshold)
        y, packed, v_last = formulas.forward(d, x, v, decay, threshold, True, streams)
        bits = d.bits(decay is not None, threshold is not None)
        assert packed.shape == (math.ceil(T / (8 // bits)) if bits else 0, 60)
        assert torch.equal(y, y0)
        assert not streams or torch.equal(v_last, v0)
        found = formulas.backward(d, grad_y, grad_v, packed if bits else x, v, decay, threshold, streams)
        for ours, theirs in zip(found, expected, strict=True):
            if theirs is None:
                assert ours.numel() == 0
            else:
                agree(ours, theirs, d)


@pytest.mark.parametrize("d", SPIKING[::7] + OTHERS, ids=label)
def test_gradients_in_float64_equal_those_of_the_reference(d):
    torch.manual_seed(1)
    x, grad_y = 1.5 * torch.randn(6, 50, dtype=torch.float64), torch.randn(6, 50, dtype=torch.float64)
    _, _, expected = gradients(d, x, grad_y, None, None, None, None)
    _, packed, _ = formulas.forward(d, x, None, None, None, True, False)
    found = formulas.backward(d, grad_y, None, packed if d.bits(False, False) else x, None, None, None, False)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=1e-12)


AT_THE_EDGE = [
    Dynamics(
        "binary", tau=2.0, v_threshold=0.5, v_reset=0.0, surrogate="rectangle", detach_reset=True, inclusive=False
    ),
    Dynamics("binary", tau=2.0, v_threshold=0.5, surrogate="triangle"),
    Dynamics("ternary", tau=2.0, v_threshold=0.5, v_reset=0.0, surrogate="rectangle", detach_reset=True),
    Dynamics("binary", tau=2.0, v_threshold=0.5, surrogate="rectangle", detach_reset=True, outside=0.25),
    Dynamics("integer", tau=4 / 3, levels=4, detach_reset=True),
    Dynamics("integer", tau=4 / 3, levels=3, detach_reset=True, margin=0.5, outside=0.25),
    Dynamics("qcfs", levels=4),
    Dynamics("sth", slope=0.5),
]


@pytest.mark.parametrize("d", AT_THE_EDGE, ids=label)
def test_ties_infinities_and_nan_go_where_the_reference_sends_them(d):
    edge = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, 2.5, 3.5, 4.0, 4.0000005, -1e-7, 0.49999997, 0.50000006, -2.0, 3e38]
    x = torch.tensor([edge + [math.inf, -math.inf, math.nan]] * 3)
    grad_y = torch.ones_like(x)
    y0, _, expected = gradients(d, x, grad_y, None, None, None, None)
    y, packed, _ = formulas.forward(d, x, None, None, None, True, False)
    torch.testing.assert_close(y, y0, rtol=0, atol=0, equal_nan=True)
    found = formulas.backward(d, grad_y, None, packed if d.bits(False, False) else x, None, None, None, False)
    finite = expected[0].isfinite().all(0)
    torch.testing.assert_close(found[0][:, finite], expected[0][:, finite], rtol=1e-6, atol=1e-6)


LEARNED = [
    (SPIKING[0], False, True),
    (dataclasses.replace(SPIKING[0], v_reset=None), True, False),
    (Dynamics("ternary", tau=2.0, surrogate="sigmoid", alpha=4.0), True, True),
    (OTHERS[0], False, True),
    (Dynamics("integer", tau=2.0, margin=0.7, outside=0.15, levels=4, detach_reset=True), True, True),
    (Dynamics("integer", tau=2.0, margin=0.7, outside=0.15, levels=4, detach_reset=True), False, False),
    (Dynamics("ternary", tau=2.0, surrogate="triangle", alpha=0.7, outside=0.15), False, False),
    (Dynamics("qcfs", levels=4), False, True),
    (Dynamics("binary", tau=4 / 3, v_reset=0.0, surrogate="rectangle", detach_reset=True), False, False),
    (Dynamics("binary", tau=4 / 3, surrogate="rectangle", alpha=0.7, outside=0.15, detach_reset=True), False, False),
]


@pytest.mark.parametrize("run", [eager, compiled], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    "d, learns_decay, learns_threshold", LEARNED, ids=lambda v: label(v) if isinstance(v, Dynamics) else ""
)
def test_pieces_and_compiled_code_give_the_same(run, d, learns_decay, learns_threshold, monkeypatch):
    monkeypatch.setattr(eager, "PIECE", 1000)
    torch.manual_seed(2)
    decay = torch.tensor(0.4) if learns_decay else None
    threshold = torch.tensor(0.7) if learns_threshold else None
    for M in (2500, 997):
        x, grad_y, grad_v, v = torch.randn(4, M), torch.randn(4, M), torch.randn(M), torch.randn(M)
        if d.memoryless:
            v = grad_v = None
        expected = formulas.forward(d, x, v, decay, threshold, True, v is not None)
        found = run.forward(d, x, v, decay, threshold, True, v is not None)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)
        saved = expected[1] if d.bits(learns_decay, learns_threshold) else x
        for a, b in zip(
            run.backward(d, grad_y, grad_v, saved, v, decay, threshold, v is not None),
            formulas.backward(d, grad_y, grad_v, saved, v, decay, threshold, v is not None),
            strict=True,
        ):
            agree(a, b, d)


def test_one_compilation_serves_every_size():
    from torch._dynamo.utils import counters

    d = Dynamics("binary", tau=1.7, v_reset=0.0, surrogate="rectangle", detach_reset=True)
    for M in (100, 4096, 33, 70000):
        x = torch.randn(3, M)
        assert torch.equal(
            compiled.forward(d, x, None, None, None, True, False)[0],
            formulas.forward(d, x, None, None, None, True, False)[0],
        )
        if M == 100:
            before = counters["stats"]["unique_graphs"]
    assert counters["stats"]["unique_graphs"] == before


def test_long_sequences_are_not_unrolled():
    d, x = Dynamics("binary", surrogate="rectangle"), torch.randn(200, 10)
    assert torch.equal(compiled.forward(d, x, None, None, None, False, False)[0], reference(d, x)[0])
