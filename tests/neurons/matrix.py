"""The matrix that the CUDA kernels are tested over, and what must hold of each case: shared by the tests with a GPU
and the tests of the same source on the host.

Every emit x surrogate x reset x detachment and every emit x reset x detachment x what is learned occurs; of all other
choices (dtype, layout, T, ...) every pair.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import torch
from torch import Tensor

from neurons.multistep import formulas
from neurons.multistep.dynamics import Dynamics
from neurons.multistep.reference import reference

SHARED = {
    "T": (4, 1, 2, 3, 5, 6, 7, 8, 19),
    "dtype": (torch.float32, torch.float16, torch.bfloat16),
    "layout": ("contiguous", "expanded", "odd", "padded", "shifted"),
    "learned": ("", "decay", "threshold", "both"),
    "start": ("zero", "number", "given"),
    "handed_on": (False, True),  # the last membrane is returned, and has a gradient
    "tau": (2.0, 4 / 3, math.inf),
    "decay_input": (False, True),
    "v_threshold": (1.0, 0.85),
}
SPIKING = {
    "emit": ("binary", "ternary"),
    "surrogate": ("rectangle", "triangle", "atan", "sigmoid"),
    "v_reset": (0.0, 0.2, None),
    "detach_reset": (True, False),
    "inclusive": (True, False),
    "negative": (0.5, 1.0),
    "alpha": (1.0, 2.0),
    "outside": (0.0, 0.15),
    **SHARED,
}
GRADED = {
    "emit": ("integer", "silu", "qcfs", "sth"),
    "levels": (4, 1, 3),
    "outside": (0.0, 0.15),
    "margin": (0.0, 0.7),
    "detach_reset": (True, False),
    "carries_output": (False, True),
    "slope": (0.1, 1.0),
    **SHARED,
}
Choices = dict[str, object]
ONLY = {  # a choice that means something to these emits alone, and the value it has elsewhere
    "negative": (("ternary",), 1.0),
    "outside": (("binary", "ternary", "integer"), 0.0),
    "margin": (("integer",), 0.0),
    "levels": (("integer", "qcfs"), 1),
    "slope": (("sth",), 1.0),
    "carries_output": (("silu",), False),
    "start": (("binary", "ternary", "integer", "silu"), "zero"),
    "handed_on": (("binary", "ternary", "integer", "silu"), False),
    "tau": (("binary", "ternary", "integer", "silu"), math.inf),
    "decay_input": (("binary", "ternary", "integer", "silu"), False),
    "v_threshold": (("binary", "ternary", "integer", "qcfs", "sth"), 1.0),
}


def possible(choices: Choices) -> bool:
    emit, learned = choices.get("emit"), choices.get("learned")
    for name, (emits, elsewhere) in ONLY.items():
        if emit is not None and emit not in emits and choices.get(name, elsewhere) != elsewhere:
            return False
    if emit in ("qcfs", "sth") and learned in ("decay", "both"):
        return False
    if emit == "silu" and learned in ("threshold", "both"):
        return False
    return not (emit in ("silu", "qcfs", "sth") and choices.get("detach_reset") is False)


def every_pair(factors: dict[str, tuple]) -> set[tuple]:
    return {
        pair
        for a, b in itertools.combinations(factors, 2)
        for pair in itertools.product([(a, x) for x in factors[a]], [(b, x) for x in factors[b]])
        if any(possible({"emit": emit} | dict(pair)) for emit in factors["emit"])
    }


def pairs(choices: Choices) -> set[tuple]:
    return set(itertools.combinations(choices.items(), 2))


def covering(factors: dict[str, tuple], *crossings: tuple[str, ...]) -> list[Choices]:
    """Rows with every combination within the `crossings` and every possible pair of any others, chosen greedily."""
    names = list(factors)
    missing = every_pair(factors)
    starts = [
        dict(zip(crossed, row, strict=True))
        for crossed in crossings
        for row in itertools.product(*(factors[n] for n in crossed))
        if possible(dict(zip(crossed, row, strict=True)))
    ]
    rows: list[Choices] = []
    while starts or missing:
        row = starts.pop(0) if starts else dict(min(missing, key=repr))
        for name in names:
            if name not in row:
                options = [row | {name: value} for value in factors[name]]
                options = [o for o in options if possible(o)]
                row = max(options, key=lambda o: len(pairs({n: o[n] for n in names if n in o}) & missing))
        row = {n: row[n] for n in names}
        rows.append(row)
        missing -= pairs(row)
    return rows


@dataclasses.dataclass(frozen=True)
class Case:
    dynamics: Dynamics
    T: int
    dtype: torch.dtype
    layout: str
    learned: str
    start: str
    handed_on: bool
    M: int = 1040

    def __str__(self) -> str:
        told = [self.dynamics.describe(), f"T={self.T}", str(self.dtype)[6:], self.layout]
        told += [f"learned {self.learned}"] if self.learned else []
        return ", ".join(
            told + ([f"start {self.start}"] if self.start != "zero" else []) + ["handed on"] * self.handed_on
        )


FIELDS = {f.name for f in dataclasses.fields(Dynamics)}


def case(row: Choices, **changes) -> Case:
    d = {k: v for k, v in row.items() if k in FIELDS}
    d["v_init"] = 0.3 if row["start"] == "number" else 0.0
    rest = {k: row[k] for k in ("T", "dtype", "layout", "learned", "start", "handed_on")}
    return Case(Dynamics(**d), **(rest | {"M": 1039 if row["layout"] == "odd" else 1040} | changes))


ROWS = [
    *covering(
        SPIKING, ("emit", "surrogate", "v_reset", "detach_reset"), ("emit", "v_reset", "detach_reset", "learned")
    ),
    *covering(GRADED, ("emit", "detach_reset", "carries_output", "learned")),
]
CASES = [case(row) for row in ROWS] + [case(ROWS[i], M=1) for i in (0, 1, -1)]


@dataclasses.dataclass
class Inputs:
    x_seq: Tensor
    grad_y_seq: Tensor
    v: Tensor | None
    grad_v: Tensor | None
    decay: Tensor | None
    threshold: Tensor | None

    def to(self, device) -> Inputs:
        """On the device with the same strides, and off the same alignment."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Inputs(**{k: None if t is None else moved(t, device) for k, t in values.items()})


def moved(t: Tensor, device) -> Tensor:
    storage = t.new_empty(0).set_(t.untyped_storage()).to(device)
    return storage.as_strided(t.shape, t.stride(), t.storage_offset())


def specials(d: Dynamics, threshold: Tensor | None, learned: bool) -> Tensor:
    """Ties with every threshold in a first step from rest, and numbers that are none."""
    th = d.v_threshold if threshold is None else threshold.item()
    ties = [th, -th, -d.negative * th, *((k + 0.5) * th for k in range(4)), d.levels * th]
    ties += [(k + 0.5) * th / d.levels for k in range(d.levels)] + [0.0, -0.0, 1e4, -1e4]
    ties += [th * d.tau, -th * d.tau] if d.decay_input and d.tau < math.inf else []
    return torch.tensor(ties if learned else [*ties, math.nan, math.inf, -math.inf])


def inputs(case: Case) -> Inputs:
    d, T, M = case.dynamics, case.T, case.M
    g = torch.Generator().manual_seed(T * 1000 + M)

    def laid_out(x: Tensor) -> Tensor:
        if case.layout == "expanded":
            return x[:1].clone().expand(T, M)
        if case.layout == "padded":  # aligned to 4 elements only
            return torch.zeros(T, M + 4, dtype=x.dtype)[:, :M].copy_(x)
        if case.layout == "shifted":  # aligned to nothing
            return torch.zeros(T * M + 1, dtype=x.dtype)[1:].view(T, M).copy_(x)
        return x.clone()

    x = torch.randn(T, M, generator=g) * 1.2 + 0.3
    threshold = torch.tensor(0.55) if case.learned in ("threshold", "both") else None
    found = specials(d, threshold, bool(case.learned))[:M]
    x[0, : len(found)] = found
    v = torch.randn(M, generator=g) * 0.5 if case.start == "given" else None
    if v is not None and not case.learned:
        v[-1:].view(torch.int32)[:] = 0x7FFFFFFF  # the NaN of a GPU, which carries when it is rounded carelessly
    return Inputs(
        laid_out(x.to(case.dtype)),
        laid_out(torch.randn(T, M, generator=g).to(case.dtype)),
        v,
        torch.randn(M, generator=g) if case.handed_on else None,
        torch.tensor(0.4) if case.learned in ("decay", "both") else None,
        threshold,
    )


def run(case: Case, kernels, device="cpu"):
    """Forward, then backward, of `kernels` (with the signatures of `formulas`) on the inputs of the case."""
    i = inputs(case).to(device)
    y, packed, v = kernels.forward(case.dynamics, i.x_seq, i.v, i.decay, i.threshold, True, case.handed_on)
    bits = case.dynamics.bits(i.decay is not None, i.threshold is not None)
    saved = packed if bits else i.x_seq
    grads = kernels.backward(
        case.dynamics, i.grad_y_seq, i.grad_v, saved, i.v, i.decay, i.threshold, case.start == "given"
    )
    return [t.cpu() for t in (y, packed, v, *grads)]


def check(case: Case, kernels, device="cpu", silu: float = 1e-6) -> None:
    """Forward to the last bit (`silu`: of that emit, within so much), gradients within 1e-5, of the formulas; gradients
    also of autograd in float64."""
    found, expected = run(case, kernels, device), run(case, formulas)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
    exactly = {} if case.dynamics.emit == "silu" else {"rtol": 0, "atol": 0}
    unit = torch.finfo(case.dtype).eps
    for a, b in zip(found[:3], expected[:3], strict=True):
        close = exactly or {"rtol": unit if a.dtype == case.dtype != torch.float32 else silu, "atol": silu}
        torch.testing.assert_close(a, b, equal_nan=True, **close)
    grad_x, grad_v, *learned = found[3:]
    close = {"rtol": max(1e-5, unit), "atol": 1e-6, "equal_nan": True}
    torch.testing.assert_close(grad_x, expected[3], **close)
    torch.testing.assert_close(grad_v, expected[4], rtol=1e-5, atol=1e-6, equal_nan=True)
    for a, b in zip(learned, expected[5:], strict=True):  # sums of as many terms of size 1
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6 * math.sqrt(case.T * case.M))
    check_against_autograd(case, grad_x)


def check_against_autograd(case: Case, grad_x: Tensor) -> None:
    """In float64, on the elements whose result does not jump when the input is moved by 1e-5."""
    i = inputs(case)

    def gradient(shift: float) -> Tensor:
        x = (i.x_seq.double() + shift).requires_grad_()
        v, decay, threshold = (None if t is None else t.double() for t in (i.v, i.decay, i.threshold))
        y, v_last = reference(case.dynamics, x, v, decay, threshold)
        outputs, grads = [y], [i.grad_y_seq.double()]
        if i.grad_v is not None:
            outputs.append(v_last)
            grads.append(i.grad_v.double())
        return torch.autograd.grad(outputs, x, grads)[0]

    low, mid, high = gradient(-1e-5), gradient(0), gradient(1e-5)
    steady = torch.isfinite(mid).all(0) & ((high - low).abs() < 1e-3 * (1 + mid.abs())).all(0)
    if case.M > 1:
        assert steady.float().mean() > 0.9
    unit = 4 * torch.finfo(case.dtype).eps
    torch.testing.assert_close(grad_x.double()[:, steady], mid[:, steady], rtol=max(1e-4, unit), atol=max(1e-5, unit))
