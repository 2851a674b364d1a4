"""Detectors of plain operators, for programs that leave this project: neurons by their equations, T unrolled."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from neurons.multistep import ops
from neurons.multistep.dynamics import Dynamics
from neurons.multistep.formulas import charge, compute_dtype, constants, step
from registry import UserError

from ..detector import Detector
from ..layers.spike_conv import SpikeConv
from .converted import ConvertedDetector
from .fourier import without_fft
from .fuse import fuse
from .packed_conv import PackedConv2d


def plain_copy(model: Detector, fft: bool = False) -> Detector:
    """A copy for evaluation without re-parameterised and packed convolutions, and without FFTs unless `fft`."""
    if isinstance(model, ConvertedDetector) and model.leak != 1:
        raise UserError(
            f"leak = {model.leak}: the read-out of an exported network is a mean: convert it without a leak"
        )
    if any(isinstance(m, SpikeConv) for m in model.modules()):
        model = fuse(model)
    model = copy.deepcopy(model).eval() if fft else without_fft(model).eval()
    for module in model.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
        if isinstance(module, PackedConv2d):
            module.packs = False
    return model


def plain_steps(
    x_seq: Tensor, v: Tensor | None, decay: Tensor | None, threshold: Tensor | None, dynamics: str, save: bool,
    return_v: bool, backend: str, adjusted: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The arguments and results of `neurons.multistep.ops.run_steps`, by the equations of `formulas`, T unrolled.

    `adjusted` is about the gradient, and changes nothing here. Steps are cut and joined along the first axis."""
    d = Dynamics.from_json(dynamics)
    dtype = compute_dtype(x_seq.dtype)
    c = constants(d, decay, threshold)
    if v is not None:
        v = v[None].to(dtype)
    elif d.v_init != 0:
        v = torch.full_like(x_seq[:1], d.v_init, dtype=dtype)
    y_seq = []
    for x in x_seq.split(1) if len(x_seq) > 1 else [x_seq]:
        x = x.to(dtype)
        h = x if d.memoryless else charge(c, v, x)
        s, v = step(d, c, h)
        y_seq.append(s.to(x_seq.dtype))
    none = x_seq.new_empty(0)
    return torch.cat(y_seq) if len(y_seq) > 1 else y_seq[0], none, v[0] if return_v and v is not None else none


def decompositions() -> dict[Callable, Callable]:
    """For `make_fx` and `ExportedProgram.run_decompositions`."""
    return {torch.ops.spikesight.steps.default: plain_steps}


assert ops.operator  # registers the operator
