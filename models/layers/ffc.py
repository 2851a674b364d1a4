"""Fast Fourier convolution: blocks with local channels and global ones, which see the whole map through a real FFT.

Chi, Jiang, Mu, "Fast Fourier Convolution", NeurIPS 2020, as SpikingYOLOX (Miao et al., AAAI 2025) uses it. An FFT is a
fixed linear map: `models.deploy.fourier` has it as matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from neurons.base import without_autocast
from neurons.multistep.formulas import compute_dtype
from registry import UserError

from .conv_unit import ConvUnit
from .layout import concat, memory_format
from .time import over_time

Factory = Callable[[], nn.Module]  # a new activation per call, for [T, B, C, H, W]

GLOBAL_SHARE = 0.75  # of the channels of a block


class ReflectPad(nn.Module):
    """[N, C, H, W] -> [N, C, H + 2, W + 2], a border that mirrors the map at its outermost rows and columns.

    Along an axis of one pixel that pixel is repeated, so that maps of any size pass.
    """

    def forward(self, x: Tensor) -> Tensor:
        wide, high = ("reflect" if size > 1 else "replicate" for size in (x.shape[-1], x.shape[-2]))
        if wide == high:
            return F.pad(x, (1, 1, 1, 1), mode=wide)
        return F.pad(F.pad(x, (1, 1, 0, 0), mode=wide), (0, 0, 1, 1), mode=high)


class Spectrum(nn.Module):
    """Orthonormal real FFT of each channel: x [..., C, H, W] -> [..., 2 C, H, W // 2 + 1], at least float32.

    Channels 2 c and 2 c + 1 are the real and imaginary part of channel c.
    """

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x.to(compute_dtype(x.dtype)), norm="ortho")
        y = torch.stack((spectrum.real, spectrum.imag), -3).flatten(-4, -3)
        return y.contiguous(memory_format=memory_format(x))


class Signal(nn.Module):
    """The inverse of `Spectrum`: [..., 2 C, H, W // 2 + 1] and W -> [..., C, H, W]."""

    def forward(self, x: Tensor, width: int) -> Tensor:
        real, imaginary = x.to(compute_dtype(x.dtype)).unflatten(-3, (-1, 2)).unbind(-3)
        spectrum = torch.complex(real, imaginary)
        y = torch.fft.irfft2(spectrum, s=(spectrum.shape[-2], width), norm="ortho")
        return y.contiguous(memory_format=memory_format(x))


class FourierUnit(ConvUnit):
    """x [T, B, C, H, W] -> the same shape: a 1 x 1 convolution, BatchNorm and activation of its spectrum.

    All T * B maps in one FFT; float32 under autocast. With a neuron as activation, parts of the spectrum spike.
    """

    published = {"conv": "conv_layer", "bn": "bn"}

    def __init__(self, channels: int, activation: nn.Module):
        super().__init__(2 * channels, 2 * channels, activation, k=1)
        self.spectrum, self.signal = Spectrum(), Signal()

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, fx.Proxy):
            return self._of_spectrum(x)
        with without_autocast(x):
            return self._of_spectrum(x).to(x.dtype)

    def _of_spectrum(self, x: Tensor) -> Tensor:
        spectrum = super().forward(over_time(self.spectrum, x))
        return over_time(partial(self.signal, width=x.shape[-1]), spectrum)


class SpectralTransform(nn.Module):
    """x [T, B, c1, H, W] -> [T, B, c2, H, W]: y = ConvUnit 1 x 1 to c2 / 2, then a 1 x 1 convolution of y + FU(y).

    Args:
        make: activations of the first convolution and of the Fourier units.
        local: also a Fourier unit of the quarters of the map: the first c2 / 8 channels of y in all four quarters, as
            c2 / 2 channels of half the height and width; its output stands in each quarter. SpikingYOLOX does not use
            it. Of odd sizes a row or column of zeros completes the quarters; differs from the published code, which
            accepts square maps of even size alone.
    """

    published = {
        "conv1.conv": "conv1.0", "conv1.bn": "conv1.1", "conv2": "conv2",
        **{f"{unit}.{k}": f"{unit}.{v}" for unit in ("fu", "lfu") for k, v in FourierUnit.published.items()},
    }  # fmt: skip

    def __init__(self, c1: int, c2: int, make: Factory = nn.ReLU, local: bool = False):
        super().__init__()
        half = c2 // 2
        if local and half % 4:
            raise UserError(f"local = True: needs a number of channels divisible by 8, got {c2}")
        self.conv1 = ConvUnit(c1, half, make(), k=1)
        self.fu = FourierUnit(half, make())
        self.lfu = FourierUnit(half, make()) if local else None
        self.conv2 = nn.Conv2d(half, c2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = x + self.fu(x)
        if self.lfu is not None:
            y = y + self._tiled(self.lfu(self._quarters(x)), x)
        return over_time(self.conv2, y)

    @staticmethod
    def _quarters(x: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., C, ceil(H / 2), ceil(W / 2)]: upper left, lower left, upper right, lower right."""
        height, width = x.shape[-2:]
        x = F.pad(x[..., : x.shape[-3] // 4, :, :], (0, width % 2, 0, height % 2))
        return torch.cat(torch.cat(x.chunk(2, -2), -3).chunk(2, -1), -3)

    @staticmethod
    def _tiled(x: Tensor, like: Tensor) -> Tensor:
        """x twice along height and width, as large as `like`."""
        return torch.cat([torch.cat([x, x], -2)] * 2, -1)[..., : like.shape[-2], : like.shape[-1]]


class FFC(nn.Module):
    """Local and global channels [T, B, l or g, H, W] -> the same: 3 x 3 convolutions, and a spectrum from g to g.

    out_l = conv(l) + conv(g), out_g = conv(l) + SpectralTransform(g). The borders are reflected (`ReflectPad`).

    Args: `spectral`, activations of the SpectralTransform.
    """

    def __init__(self, local: int, wide: int, spectral: Factory = nn.ReLU):
        super().__init__()
        self.pad = ReflectPad()
        self.convl2l = nn.Conv2d(local, local, 3, bias=False)
        self.convl2g = nn.Conv2d(local, wide, 3, bias=False)
        self.convg2l = nn.Conv2d(wide, local, 3, bias=False)
        self.convg2g = SpectralTransform(wide, wide, spectral)

    def forward(self, local: Tensor, wide: Tensor) -> tuple[Tensor, Tensor]:
        l_padded, g_padded = over_time(self.pad, local), over_time(self.pad, wide)
        return (
            over_time(self.convl2l, l_padded) + over_time(self.convg2l, g_padded),
            over_time(self.convl2g, l_padded) + self.convg2g(wide),
        )


class FFCUnit(nn.Module):
    """FFC - BatchNorm - activation of both parts; published `FFC_BN_ACT`."""

    published = {
        **{f"ffc.{part}": f"ffc.{part}" for part in ("convl2l", "convl2g", "convg2l")},
        **{f"ffc.convg2g.{k}": f"ffc.convg2g.{v}" for k, v in SpectralTransform.published.items() if "lfu" not in k},
        "bn_l": "bn_l", "bn_g": "bn_g",
    }  # fmt: skip

    def __init__(self, local: int, wide: int, make: Factory = nn.ELU, spectral: Factory = nn.ReLU):
        super().__init__()
        self.ffc = FFC(local, wide, spectral)
        self.bn_l, self.bn_g = nn.BatchNorm2d(local), nn.BatchNorm2d(wide)
        self.neuron_l, self.neuron_g = make(), make()

    def forward(self, local: Tensor, wide: Tensor) -> tuple[Tensor, Tensor]:
        local, wide = self.ffc(local, wide)
        return self.neuron_l(over_time(self.bn_l, local)), self.neuron_g(over_time(self.bn_g, wide))


class FFCResnetBlock(nn.Module):
    """x [T, B, C, H, W] -> the same: x + two FFCUnits of it. Of C channels the last int(0.75 C) are global.

    Args: `make`, activations of the FFCUnits; `spectral`, those within their SpectralTransforms.
    """

    published = {f"ffc{i}.{k}": f"ffc{i}.{v}" for i in (1, 2) for k, v in FFCUnit.published.items()}

    def __init__(self, channels: int, make: Factory = nn.ELU, spectral: Factory = nn.ReLU):
        super().__init__()
        wide = int(GLOBAL_SHARE * channels)
        self.local = channels - wide
        self.ffc1 = FFCUnit(self.local, wide, make, spectral)
        self.ffc2 = FFCUnit(self.local, wide, make, spectral)

    def forward(self, x: Tensor) -> Tensor:
        local, wide = x[..., : self.local, :, :], x[..., self.local :, :, :]
        return concat(self.ffc2(*self.ffc1(local, wide))) + x
