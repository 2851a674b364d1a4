"""SpikeYOLO: meta-SNN blocks with re-parameterised convolutions, network, the published sizes, weight names.

Luo et al., "Integer-Valued Training and Spike-Driven Inference Spiking Neural Network for High-performance and
Energy-efficient Object Detection", ECCV 2024.

Shortcuts add membrane potentials: a block maps real values to real values [T, B, C, H, W]. A neuron precedes every
convolution except the first. In evaluation each `SpikeConv` equals one convolution of spikes (`models.deploy.fuse`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurons import NeuronSpec, neuron_factory

from ..detector import Detector
from ..encoders import DirectEncoder
from ..heads import HeadSpec, build_head
from ..layers.layout import concat, memory_format
from ..layers.resample import upsample_to
from ..layers.spike_conv import SpikeConv, batch_norm, conv2d, fuse_conv_bn, scale_and_shift, standard
from ..layers.time import over_time
from ..published import names_of_rows
from ..registry import register_model

Factory = Callable[[], nn.Module]
NEURON = {"name": "ilif", "D": 4}  # of the paper
GEN1_NEURON = {"name": "ilif", "D": 4, "tau": 2.0, "decay_input": True}  # of the published Gen1 code


class _Bordered(torch.autograd.Function):
    """y [N, C, H, W] -> [N, C, H + 2, W + 2] within a constant border [1, C, 1, 1]. The gradient keeps the memory
    format, which that of an assignment to a slice does not."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, border: Tensor) -> Tensor:
        N, C, H, W = y.shape
        ctx.format = memory_format(y)
        padded = border.expand(N, C, H + 2, W + 2).contiguous(memory_format=ctx.format)
        padded[:, :, 1:-1, 1:-1] = y
        return padded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[:, :, 1:-1, 1:-1].contiguous(memory_format=ctx.format), None


class BNAndPad(nn.Module):
    """BatchNorm, then a border of 1 pixel with the value of BatchNorm at 0 by its running statistics."""

    def __init__(self, channels: int):
        super().__init__()
        self.bn = batch_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        with torch.no_grad():
            border = scale_and_shift(self.bn)[1].view(1, -1, 1, 1).to(y.dtype)
        return _Bordered.apply(y, border)

    def before(self, pointwise: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of the 1 x 1 convolution `pointwise` [o, i, 1, 1] of this layer's output, in evaluation."""
        scale, shift = scale_and_shift(self.bn)
        return pointwise * scale.view(1, -1, 1, 1), pointwise[:, :, 0, 0] @ shift


class SepRepConv(nn.Module):
    """BN and pad - 1 x 1 to c2 - 3 x 3 per channel. In evaluation one dense 3 x 3 convolution."""

    published = {"pad": "body.0", "pointwise": "body.1.0", "depthwise": "body.1.1"}

    def __init__(self, c1: int, c2: int):
        super().__init__()
        self.pad = BNAndPad(c1)
        self.pointwise = nn.Conv2d(c1, c2, 1, bias=False)
        self.depthwise = nn.Conv2d(c2, c2, 3, groups=c2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.depthwise(self.pointwise(self.pad(x)))

    def dense(self) -> nn.Conv2d:
        weight, bias = self.pad.before(self.pointwise.weight)
        taps = self.depthwise.weight  # [c2, 1, 3, 3]
        like = nn.Conv2d(1, 1, 3, padding=1)
        return conv2d(taps * weight, taps.sum((1, 2, 3)) * bias, like)

    def separable(self) -> nn.Sequential:
        # Padded by 1 with zeros, the 1 x 1 convolution gives its bias there: the border BNAndPad makes.
        pointwise = conv2d(*self.pad.before(self.pointwise.weight), nn.Conv2d(1, 1, 1, padding=1))
        return nn.Sequential(pointwise, fuse_conv_bn(self.depthwise, nn.Identity()))


class RepConv(nn.Module):
    """1 x 1 - BN and pad - 3 x 3 per channel - 1 x 1 to c2 - BN. In evaluation one dense 3 x 3 convolution."""

    published = {
        "first": "body.0", "pad": "body.1", "depthwise": "body.2.0", "pointwise": "body.2.1", "bn": "body.2.2",
    }  # fmt: skip

    def __init__(self, c1: int, c2: int):
        super().__init__()
        self.first = nn.Conv2d(c1, c1, 1, bias=False)
        self.pad = BNAndPad(c1)
        self.depthwise = nn.Conv2d(c1, c1, 3, groups=c1, bias=False)
        self.pointwise = nn.Conv2d(c1, c2, 1, bias=False)
        self.bn = batch_norm(c2)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.pointwise(self.depthwise(self.pad(self.first(x)))))

    def dense(self) -> nn.Conv2d:
        last = fuse_conv_bn(self.pointwise, self.bn)
        out, taps = last.weight[:, :, 0, 0], self.depthwise.weight[:, 0]  # [o, m], [m, 3, 3]
        scale, shift = scale_and_shift(self.pad.bn)
        first = self.first.weight[:, :, 0, 0] * scale[:, None]  # [m, i]
        weight = torch.einsum("om,mhw,mi->oihw", out, taps, first)
        assert last.bias is not None
        return conv2d(weight, last.bias + out @ (taps.sum((1, 2)) * shift), nn.Conv2d(1, 1, 3, padding=1))

    def separable(self) -> nn.Sequential:
        scale, shift = scale_and_shift(self.pad.bn)
        first = conv2d(self.first.weight * scale.view(-1, 1, 1, 1), shift, nn.Conv2d(1, 1, 1, padding=1))
        return nn.Sequential(first, fuse_conv_bn(self.depthwise, nn.Identity()), fuse_conv_bn(self.pointwise, self.bn))


class SepConv(nn.Module):
    """neuron - 1 x 1 to 2 dim - BN - neuron - 7 x 7 per channel - BN - neuron - SepRepConv to dim - BN."""

    published = {
        "wide.conv": "pwconv1", "wide.bn": "bn1", "depthwise.conv": "dwconv2", "depthwise.bn": "bn2",
        "narrow.bn": "bn3", **{f"narrow.conv.{k}": f"pwconv3.{v}" for k, v in SepRepConv.published.items()},
    }  # fmt: skip

    def __init__(self, dim: int, neuron: Factory, k: int = 7):
        super().__init__()
        wide = 2 * dim
        depthwise = nn.Conv2d(wide, wide, k, padding=k // 2, groups=wide, bias=False)
        self.wide = standard(dim, wide, neuron())
        self.depthwise = SpikeConv(neuron(), depthwise, batch_norm(wide))
        self.narrow = SpikeConv(neuron(), SepRepConv(wide, dim), batch_norm(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(self.depthwise(self.wide(x)))


class SNNBlock1(nn.Module):
    """SNN-Block-1, published `MS_AllConvBlock`: SepConv + x, then two 3 x 3 SpikeConv through `ratio` dim, + that."""

    def __init__(self, dim: int, ratio: int, neuron: Factory):
        super().__init__()
        self.sep = SepConv(dim, neuron)
        self.conv1 = standard(dim, ratio * dim, neuron(), 3)
        self.conv2 = standard(ratio * dim, dim, neuron(), 3)
        self.published = {f"sep.{k}": f"Conv.{v}" for k, v in SepConv.published.items()}
        self.published |= {f"conv{i}.{part}": f"conv{i}.{part}" for i in (1, 2) for part in ("conv", "bn")}

    def forward(self, x: Tensor) -> Tensor:
        x = self.sep(x) + x
        return x + self.conv2(self.conv1(x))


class SNNBlock2(nn.Module):
    """SNN-Block-2, published `MS_ConvBlock`: SepConv + x, then two RepConv through `ratio` dim, + that."""

    def __init__(self, dim: int, ratio: int, neuron: Factory):
        super().__init__()
        self.sep = SepConv(dim, neuron)
        self.conv1 = SpikeConv(neuron(), RepConv(dim, ratio * dim), batch_norm(ratio * dim))
        self.conv2 = SpikeConv(neuron(), RepConv(ratio * dim, dim), batch_norm(dim))
        self.published = {f"sep.{k}": f"Conv.{v}" for k, v in SepConv.published.items()}
        for i in (1, 2):
            self.published[f"conv{i}.bn"] = f"bn{i}"
            self.published |= {f"conv{i}.conv.{k}": f"conv{i}.{v}" for k, v in RepConv.published.items()}

    def forward(self, x: Tensor) -> Tensor:
        x = self.sep(x) + x
        return x + self.conv2(self.conv1(x))


class Downsampling(SpikeConv):
    """MS_DownSampling: (neuron -) strided convolution with a bias - BN."""

    published = {"conv": "encode_conv", "bn": "encode_bn"}

    def __init__(self, c1: int, c2: int, neuron: nn.Module | None, k: int = 3, s: int = 2, p: int = 1):
        super().__init__(neuron, nn.Conv2d(c1, c2, k, s, p), batch_norm(c2))


class SpikeSPPF(nn.Module):
    """1 x 1 to half - three chained 5 x 5 max pools of the membrane - the four maps together - 1 x 1."""

    published = {f"cv{i}.{part}": f"cv{i}.{part}" for i in (1, 2) for part in ("conv", "bn")}

    def __init__(self, c1: int, c2: int, neuron: Factory):
        super().__init__()
        self.cv1, self.cv2 = standard(c1, c1 // 2, neuron()), standard(c1 // 2 * 4, c2, neuron())

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.cv1(x)]
        for _ in range(3):
            maps.append(over_time(lambda x: F.max_pool2d(x, 5, 1, 2), maps[-1]))
        return self.cv2(concat(maps))


class Size(NamedTuple):
    """depth, width: factors on the repeats and channels of the published yaml. last: ratio of the P5 block."""

    depth: float
    width: float
    last: int = 1
    deepest: int = 3  # repeats of the stage at stride 32 before `depth`


# Name of each layer of the network: its row in the published yaml. Rows 11, 13, 15, 17, 21 and 24 have no weights.
ROWS = {
    "down1": 1, "stage1": 2, "down2": 3, "stage2": 4, "down3": 5, "stage3": 6, "down4": 7, "stage4": 8, "sppf": 9,
    "neck_lateral5": 10, "neck_top4": 12, "neck_lateral4": 14, "neck_top3": 16, "neck_fuse3": 18, "neck_p3": 19,
    "neck_down4": 20, "neck_p4": 22, "neck_down5": 23, "neck_p5": 25,
}  # fmt: skip


class SpikeYOLONetwork(nn.Module):
    """x [T, B, C, H, W] -> [P3, P4, P5] at strides 8, 16, 32, each [T, B, C_l, H_l, W_l].

    Four stages, at strides 4, 8, 16 and 32, of SNN-Block-1 (stages 1 and 2) and SNN-Block-2 (3 and 4); then a neck that
    goes from stride 32 up to 8 and back down.
    """

    strides = (8, 16, 32)
    published_head = "model.26"
    _version = 3  # 2: names were "rows.<row>"; 1: neck_top4 and neck_top3 ran before the upsampling

    def __init__(self, size: Size, neuron: Factory, in_channels: int):
        super().__init__()
        c2, c3, c4, c5 = (int(c * size.width) for c in (128, 256, 512, 1024))

        def stage(block: Callable, dim: int, ratio: int, repeats: int) -> nn.Module:
            blocks = [block(dim, ratio, neuron) for _ in range(max(round(repeats * size.depth), 1))]
            return blocks[0] if len(blocks) == 1 else nn.Sequential(*blocks)

        self.down1 = Downsampling(in_channels, c2, None, 7, 4, 2)
        self.stage1 = stage(SNNBlock1, c2, 4, 3)
        self.down2 = Downsampling(c2, c3, neuron())
        self.stage2 = stage(SNNBlock1, c3, 4, 6)
        self.down3 = Downsampling(c3, c4, neuron())
        self.stage3 = stage(SNNBlock2, c4, 3, 9)
        self.down4 = Downsampling(c4, c5, neuron())
        self.stage4 = stage(SNNBlock2, c5, 2, size.deepest)
        self.sppf = SpikeSPPF(c5, c5, neuron)
        # Up: each lateral goes to the finer map, and on the way down to the coarser one again.
        self.neck_lateral5 = standard(c5, c4, neuron())
        self.neck_top4 = SNNBlock2(c4, 3, neuron)
        self.neck_lateral4 = standard(c4 + c4, c3, neuron())
        self.neck_top3 = SNNBlock1(c3, 4, neuron)
        self.neck_fuse3 = standard(c3 + c3, c3, neuron())
        self.neck_p3 = SNNBlock1(c3, 4, neuron)
        # Down.
        self.neck_down4 = standard(c3, c3, neuron(), 3, 2)
        self.neck_p4 = SNNBlock2(c3 + c3, 3, neuron)
        self.neck_down5 = standard(c3 + c3, c4, neuron(), 3, 2)
        self.neck_p5 = SNNBlock2(c4 + c4, size.last, neuron)
        self.channels = (c3, c3 + c3, c4 + c4)

    def forward(self, x: Tensor) -> list[Tensor]:
        c3 = self.stage2(self.down2(self.stage1(self.down1(x))))
        c4 = self.stage3(self.down3(c3))
        c5 = self.sppf(self.stage4(self.down4(c4)))
        lateral5 = self.neck_lateral5(c5)
        top4 = self.neck_top4(upsample_to(lateral5, c4))
        lateral4 = self.neck_lateral4(concat([top4, c4]))
        top3 = self.neck_top3(upsample_to(lateral4, c3))
        p3 = self.neck_p3(self.neck_fuse3(concat([top3, c3])))
        p4 = self.neck_p4(concat([self.neck_down4(p3), lateral4]))
        p5 = self.neck_p5(concat([self.neck_down5(p4), lateral5]))
        return [p3, p4, p5]

    def published_names(self) -> dict[str, str]:
        return names_of_rows(self, ROWS)

    def rename_keys(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Rename keys below `prefix` of a state dict of version 2 or earlier to the current ones, in place."""
        names = {str(row): name for name, row in ROWS.items()}
        for key in [key for key in state_dict if key.startswith(f"{prefix}rows.")]:
            row, _, rest = key.removeprefix(f"{prefix}rows.").partition(".")
            if row in names:
                state_dict[f"{prefix}{names[row]}.{rest}"] = state_dict.pop(key)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors) -> None:
        self.rename_keys(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)
        if local_metadata.get("version") == 1:
            errors.append(
                "these SpikeYOLO weights were trained with blocks 12 and 16 before the upsampling; the network now "
                "upsamples first, as the published one does, and would give other logits. Train again, or evaluate "
                "them with the version of this project that trained them"
            )


def _detector(
    size: Size, num_classes: int, T: int, neuron: NeuronSpec, head: HeadSpec, in_channels: int, width: float
) -> Detector:
    make = neuron_factory(neuron)
    network = SpikeYOLONetwork(size._replace(width=size.width * width), make, in_channels)
    return Detector(network, build_head(head, network.channels, network.strides, num_classes, make), DirectEncoder(T))


@register_model
def spikeyolo_n(num_classes=80, T=1, neuron=NEURON, head="dfl", in_channels=3, width=1.0) -> Detector:
    """13,271,632 parameters at 80 classes ("13.2M")."""
    return _detector(Size(0.33, 0.375), num_classes, T, neuron, head, in_channels, width)


@register_model
def spikeyolo_s(num_classes=80, T=1, neuron=NEURON, head="dfl", in_channels=3, width=1.0) -> Detector:
    """23,153,024 parameters at 80 classes ("23.1M")."""
    return _detector(Size(0.33, 0.5), num_classes, T, neuron, head, in_channels, width)


@register_model
def spikeyolo_m(num_classes=80, T=1, neuron=NEURON, head="dfl", in_channels=3, width=1.0, last_ratio=2) -> Detector:
    """47,841,856 parameters at 80 classes; 45,784,256 with `last_ratio=1`, as the published yaml has it."""
    return _detector(Size(0.5, 0.625, last_ratio), num_classes, T, neuron, head, in_channels, width)


@register_model
def spikeyolo_l(num_classes=80, T=1, neuron=NEURON, head="dfl", in_channels=3, width=1.0, last_ratio=2) -> Detector:
    """68,478,400 parameters at 80 classes; 65,517,760 with `last_ratio=1`, as the published yaml has it."""
    return _detector(Size(0.5, 0.75, last_ratio), num_classes, T, neuron, head, in_channels, width)


@register_model
def spikeyolo_gen1_n(num_classes=2, T=4, neuron=GEN1_NEURON, head="dfl", in_channels=3, width=1.0) -> Detector:
    """6,124,470 parameters at 2 classes: the smallest scale of the published Gen1 code."""
    return _detector(Size(0.33, 0.25, deepest=1), num_classes, T, neuron, head, in_channels, width)


@register_model
def spikeyolo_gen1_s(num_classes=2, T=4, neuron=GEN1_NEURON, head="dfl", in_channels=3, width=1.0) -> Detector:
    """23,122,838 parameters at 2 classes: the published Gen1 network and its neuron, H = (V + X) / 2."""
    return _detector(Size(0.33, 0.5, deepest=1), num_classes, T, neuron, head, in_channels, width)
