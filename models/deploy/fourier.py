"""FFTs as real matrices: Fourier units in graphs without FFT operators or complex numbers."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from neurons.multistep.formulas import compute_dtype

from ..layers.ffc import Signal, Spectrum

Module = TypeVar("Module", bound=nn.Module)


def without_fft(model: Module) -> Module:
    """A copy of `model` whose Fourier units multiply by DFT matrices: the same function up to rounding.

    The matrices follow from the size of each map when it runs, as constants where an export fixes that size. A
    detector, a part of it, or a layer graph (`models.deploy.graph.trace`).
    """
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) in MATRIX_FORMS:
                setattr(module, name, MATRIX_FORMS[type(child)]())
    return model


def _waves(n: int, frequencies: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of 2 pi i k / n, divided by sqrt(n): [n, frequencies] over positions i and frequencies k."""
    i, k = (torch.arange(count, dtype=like.dtype, device=like.device) for count in (n, frequencies))
    angle = (i[:, None] * k) % n * (2 * math.pi / n)  # i k is exact, so that large angles are, too
    return angle.cos() / math.sqrt(n), angle.sin() / math.sqrt(n)


class MatrixSpectrum(Spectrum):
    """`Spectrum` by two products, along the width and along the height."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(compute_dtype(x.dtype))
        height, width = x.shape[-2:]
        cos, sin = _waves(width, width // 2 + 1, x)
        real, imaginary = x @ cos, -(x @ sin)
        cos, sin = _waves(height, height, x)
        real, imaginary = cos @ real + sin @ imaginary, cos @ imaginary - sin @ real
        return torch.stack((real, imaginary), -3).flatten(-4, -3)


class MatrixSignal(Signal):
    """`Signal` by two products, along the height and along the width."""

    def forward(self, x: Tensor, width: int) -> Tensor:
        real, imaginary = x.to(compute_dtype(x.dtype)).unflatten(-3, (-1, 2)).unbind(-3)
        height, frequencies = x.shape[-2:]
        cos, sin = _waves(height, height, real)
        real, imaginary = cos @ real - sin @ imaginary, cos @ imaginary + sin @ real
        cos, sin = _waves(width, frequencies, real)
        # Each frequency stands for itself and its negative one, but for 0 and, of an even width, the last.
        single = (torch.arange(frequencies, device=x.device) * 2) % width == 0
        twice = 2 - single.to(real.dtype)
        return real @ (cos * twice).mT - imaginary @ (sin * twice).mT


MATRIX_FORMS: dict[type[nn.Module], type[nn.Module]] = {Spectrum: MatrixSpectrum, Signal: MatrixSignal}
