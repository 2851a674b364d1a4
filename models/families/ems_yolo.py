"""EMS-YOLO: spiking ResNet detectors with membrane shortcuts. Blocks, network, tables of the sizes, weight names.

Su et al., "Deep Directly-Trained Spiking Neural Networks for Object Detection", ICCV 2023.

Shortcuts add membrane potentials: a block maps real values to real values [T, B, C, H, W], and its neurons turn them
into spikes before each convolution. Layers without state run on T * B images at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from neurons import NeuronSpec, build_neuron, neuron_factory
from registry import UserError

from ..detector import Detector
from ..encoders import DirectEncoder
from ..heads import HeadSpec, build_head
from ..layers.layout import concat
from ..layers.resample import max_pool, upsample_to
from ..layers.time import over_time
from ..layers.width import scaled
from ..published import names_of_rows
from ..registry import register_model

Factory = Callable[[], nn.Module]

# BatchNorm gains at the start, as multiples of the threshold 0.5 ("tdBN"): 1 inside a block, 0.2 where a block ends.
GAIN, LAST_GAIN = 0.5, 0.1


class ConvBN(nn.Module):
    """k x k convolution without bias, then BatchNorm with statistics over T, B, H, W. Also the stem."""

    published = {"conv": "conv", "bn": "bn.bn"}

    def __init__(self, c1: int, c2: int, k: int, s: int = 1, gain: float = GAIN):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        nn.init.constant_(self.bn.weight, gain)

    def forward(self, x: Tensor) -> Tensor:
        return over_time(self.bn, over_time(self.conv, x))


class GradedConv(ConvBN):
    """ConvBN and a graded (SiLU) neuron: published class `Conv`. Real-valued output."""

    def __init__(self, c1: int, c2: int, neuron: Factory, k: int = 3, s: int = 1):
        super().__init__(c1, c2, k, s)
        self.neuron = neuron()

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(super().forward(x))


class ResidualPath(nn.Module):
    """Residual path of all EMS blocks: neuron - conv k, stride s - BN - neuron - conv k - BN."""

    def __init__(self, c1: int, hidden: int, c2: int, neuron: Factory, k: int, s: int):
        super().__init__()
        self.neuron1, self.conv1 = neuron(), ConvBN(c1, hidden, k, s)
        self.neuron2, self.conv2 = neuron(), ConvBN(hidden, c2, k, gain=LAST_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        return self.after_first_neuron(self.neuron1(x))

    def after_first_neuron(self, spikes: Tensor) -> Tensor:
        return self.conv2(self.neuron2(self.conv1(spikes)))


class AddBlock(nn.Module):
    """Residual path + shortcut. Where the shape changes, the shortcut is pool - (spike) - conv 1 x 1 - BN.

    With `spike_shortcut` every convolution gets spikes: EMS-Block1 of the paper, published `BasicBlock_2` and (hidden
    width fixed at 1024) `BasicBlock_1`. Without, the shortcut's convolution gets the membrane: `BasicBlock_ms`.
    """

    def __init__(self, c1: int, c2: int, neuron: Factory, k: int, s: int, hidden: int, spike_shortcut: bool):
        super().__init__()
        self.residual = ResidualPath(c1, hidden, c2, neuron, k, s)
        self.stride = s
        self.projects = s != 1 or c1 != c2
        if self.projects:
            self.shortcut_neuron = neuron() if spike_shortcut else nn.Identity()
            self.shortcut = ConvBN(c1, c2, 1)
        index = 2 if spike_shortcut else 1
        self.published = _published_residual(index if self.projects else None)

    def forward(self, x: Tensor) -> Tensor:
        if not self.projects:
            return self.residual(x) + x
        return self.residual(x) + self.shortcut(self.shortcut_neuron(max_pool(x, self.stride)))


class ConcatBlock(nn.Module):
    """Residual path + concat(spike - conv 1 x 1 - BN to c2 - c1 channels, x), pooled: EMS-Block2 of the paper.

    Published `Concat_res2` (hidden = c2) and `ConcatBlock_ms` (hidden = c2 / 2). The published code pools after the
    concatenation; pooling both parts before is equal, and keeps BatchNorm's gradient contiguous. Both branches start
    with the same neuron on the same x: it runs once.
    """

    def __init__(self, c1: int, c2: int, neuron: Factory, k: int, s: int, hidden: int):
        super().__init__()
        if c2 <= c1:
            raise UserError(f"a ConcatBlock must widen: {c1} channels in, {c2} out")
        self.residual = ResidualPath(c1, hidden, c2, neuron, k, s)
        self.shortcut = ConvBN(c1, c2 - c1, 1)
        self.stride = s
        self.published = _published_residual(1)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.residual.neuron1(x)
        shortcut = concat([max_pool(self.shortcut(spikes), self.stride), max_pool(x, self.stride)])
        return self.residual.after_first_neuron(spikes) + shortcut


class SEWBlock(nn.Module):
    """SEW block of the paper's ablation: published `BasicBlock`, graded neurons after each convolution."""

    def __init__(self, c1: int, c2: int, neuron: Factory, k: int = 3, s: int = 1):
        super().__init__()
        self.cv1 = GradedConv(c1, c2 // 2, neuron, k, s)
        self.cv2 = GradedConv(c2 // 2, c2, neuron)
        self.shortcut = ConvBN(c1, c2, 1, s) if s != 1 or c1 != c2 else None
        self.published = {
            **{f"cv{i}.{ours}": f"cv{i}.{theirs}" for i in (1, 2) for ours, theirs in ConvBN.published.items()},
            **({"shortcut.conv": "shortcut.0", "shortcut.bn": "shortcut.1.bn"} if self.shortcut else {}),
        }

    def forward(self, x: Tensor) -> Tensor:
        return self.cv2(self.cv1(x)) + (x if self.shortcut is None else self.shortcut(x))


def basic_block_1(c1: int, c2: int, neuron: Factory, k: int = 3, s: int = 1, hidden: int = 1024) -> AddBlock:
    return AddBlock(c1, c2, neuron, k, s, hidden=hidden, spike_shortcut=True)


def basic_block_2(c1: int, c2: int, neuron: Factory, k: int = 3, s: int = 1) -> AddBlock:
    return AddBlock(c1, c2, neuron, k, s, hidden=c2, spike_shortcut=True)


def basic_block_ms(c1: int, c2: int, neuron: Factory, k: int = 3, s: int = 1) -> AddBlock:
    return AddBlock(c1, c2, neuron, k, s, hidden=c2 // 2, spike_shortcut=False)


def concat_res2(c1: int, c2: int, neuron: Factory, k: int = 3, s: int = 1) -> ConcatBlock:
    return ConcatBlock(c1, c2, neuron, k, s, hidden=c2)


def concat_block_ms(c1: int, c2: int, neuron: Factory, k: int = 3, s: int = 1) -> ConcatBlock:
    return ConcatBlock(c1, c2, neuron, k, s, hidden=c2 // 2)


def _published_residual(shortcut_index: int | None) -> dict[str, str]:
    names = {
        "residual.conv1.conv": "residual_function.1",
        "residual.conv1.bn": "residual_function.2.bn",
        "residual.conv2.conv": "residual_function.4",
        "residual.conv2.bn": "residual_function.5.bn",
    }
    if shortcut_index is not None:
        names["shortcut.conv"] = f"shortcut.{shortcut_index}"
        names["shortcut.bn"] = f"shortcut.{shortcut_index + 1}.bn"
    return names


class EMSNetwork(nn.Module):
    """x [T, B, C, H, W] -> [P4 at stride 16, P5 at stride 32], each [T, B, C_l, H_l, W_l].

        stem (stride 2) - stages (stride 32) - bridge - p5
                            |                    +- lateral 1 x 1 - up x 2 -+
                            +--- c4 (stride 16) ---------------------------concat - p4

    `stages` are the layers of the backbone; `c4` is the index of the one whose output the neck uses.
    """

    strides = (16, 32)
    neck = ("bridge", "p5", "lateral", "p4")

    def __init__(
        self,
        stem: nn.Module,
        stages: list[nn.Module],
        c4: int,
        bridge: nn.Module,
        p5: nn.Module,
        lateral: nn.Module,
        p4: nn.Module,
        channels: tuple[int, int],
    ):
        super().__init__()
        self.stem, self.stages = stem, nn.ModuleList(stages)
        self.bridge, self.p5, self.lateral, self.p4 = bridge, p5, lateral, p4
        self.c4, self.channels = c4, channels

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i == self.c4:
                c4 = x
        x = self.bridge(x)
        up = upsample_to(self.lateral(x), c4)
        return [self.p4(concat([up, c4])), self.p5(x)]

    @property
    def published_head(self) -> str:
        return f"model.{len(self.stages) + 7}"

    def published_names(self) -> dict[str, str]:
        n = len(self.stages)
        rows = {"stem": 0, **{f"stages.{i}": i + 1 for i in range(n)}}
        rows |= {"bridge": n + 1, "p5": n + 2, "lateral": n + 3, "p4": n + 6}  # n + 4, n + 5: upsample, concat
        return names_of_rows(self, rows)


class Row(NamedTuple):
    """A row of a published table: `repeats` blocks in sequence, of which the first has the stride."""

    block: Callable[..., nn.Module]  # (c1, c2, neuron, kernel, stride), and `hidden` where the row has it
    channels: int
    stride: int = 1
    repeats: int = 1
    kernel: int = 3
    graded: bool = False  # whether its neurons are `_graded_neuron`
    hidden: int | None = None


class Table(NamedTuple):
    """A network as the rows of a published table; stem and stages have stride 32 in all."""

    stem: Row
    stages: list[Row]
    bridge: Row
    p5: Row
    lateral: Row
    p4: Row


def _graded_neuron(neuron: Factory) -> nn.Module:
    """The graded neuron of the published networks, or the activation of an ANN twin."""
    own = neuron()
    return build_neuron("graded_silu") if getattr(own, "spiking", True) else own


def _detector(
    table: Table, num_classes: int, T: int, neuron: NeuronSpec, head: HeadSpec, in_channels: int, width: float
) -> Detector:
    make, w = neuron_factory(neuron), partial(scaled, width=width)

    def built(row: Row, c1: int) -> nn.Module:
        c2, own = w(row.channels), partial(_graded_neuron, make) if row.graded else make
        hidden = {} if row.hidden is None else {"hidden": w(row.hidden)}
        blocks = [row.block(c1, c2, own, row.kernel, row.stride, **hidden)]
        blocks += [row.block(c2, c2, own, row.kernel, 1, **hidden) for _ in range(row.repeats - 1)]
        return blocks[0] if row.repeats == 1 else nn.Sequential(*blocks)

    stem = built(table.stem, in_channels)
    widths = [w(row.channels) for row in (table.stem, *table.stages)]
    stages = [built(row, c) for row, c in zip(table.stages, widths, strict=False)]
    c4 = max(i for i, row in enumerate(table.stages) if row.stride > 1) - 1  # the last row at stride 16
    lateral, bridge = w(table.lateral.channels), w(table.bridge.channels)
    network = EMSNetwork(
        stem,
        stages,
        c4,
        bridge=built(table.bridge, widths[-1]),
        p5=built(table.p5, bridge),
        lateral=built(table.lateral, bridge),
        p4=built(table.p4, lateral + widths[c4 + 1]),
        channels=(w(table.p4.channels), w(table.p5.channels)),
    )
    return Detector(network, build_head(head, network.channels, network.strides, num_classes, make), DirectEncoder(T))


STEM = partial(Row, lambda c1, c2, neuron, k, s: ConvBN(c1, c2, k, s), stride=2)  # the published stem has no neuron
B1, B2, MS = partial(Row, basic_block_1, hidden=1024), partial(Row, basic_block_2), partial(Row, basic_block_ms)
CAT, CAT_MS = partial(Row, concat_res2), partial(Row, concat_block_ms)
GRADED, SEW = partial(Row, GradedConv, graded=True), partial(Row, SEWBlock, graded=True)


def _neck(bridge: Callable, p5: Callable, lateral: Callable, p4: Callable) -> tuple[Row, Row, Row, Row]:
    return bridge(256), p5(512), lateral(128, kernel=1), p4(256)


def _eighteen(plain: Callable, wide: Callable) -> list[Row]:
    return [row for c in (64, 128, 256, 512) for row in (wide(c, 2), plain(c))]


def _thirty_four(wide: Callable) -> list[Row]:
    repeats = {64: 2, 128: 3, 256: 5, 512: 2}
    return [row for c, n in repeats.items() for row in ((wide if c > 64 else B2)(c, 2), B2(c, repeats=n))]


@register_model
def ems_resnet10(num_classes=80, T=4, neuron="lif", head="anchor", in_channels=3, width=1.0) -> Detector:
    """Published `resnet10.yaml`. 17,561,662 parameters at 80 classes."""
    stages = [B2(64, 2), CAT(128, 2), CAT(256, 2), CAT(512, 2)]
    table = Table(STEM(64, kernel=7), stages, *_neck(B1, B2, B2, B2))
    return _detector(table, num_classes, T, neuron, head, in_channels, width)


@register_model
def ems_resnet18(num_classes=80, T=4, neuron="lif", head="anchor", in_channels=3, width=1.0) -> Detector:
    """Published `resnet18.yaml`, graded (real valued) before the head. 15,427,774 parameters at 80 classes."""
    table = Table(STEM(64, kernel=7), _eighteen(B2, B2), *_neck(B2, GRADED, B2, GRADED))
    return _detector(table, num_classes, T, neuron, head, in_channels, width)


@register_model
def ems_resnet34(num_classes=80, T=4, neuron="lif", head="anchor", in_channels=3, width=1.0) -> Detector:
    """Published `resnet34.yaml`. 34,027,454 parameters at 80 classes."""
    table = Table(STEM(64, kernel=7), _thirty_four(B2), *_neck(B1, B2, B2, B2))
    return _detector(table, num_classes, T, neuron, head, in_channels, width)


@register_model
def ems_resnet34_cat(num_classes=80, T=4, neuron="lif", head="anchor", in_channels=3, width=1.0) -> Detector:
    """Published `resnet34-cat.yaml`, as the released COCO run names it. 25,449,022 parameters at 80 classes."""
    table = Table(STEM(64, kernel=7), _thirty_four(CAT), *_neck(B2, GRADED, B2, GRADED))
    return _detector(table, num_classes, T, neuron, head, in_channels, width)


@register_model
def ems_resnet10_ee(num_classes=80, T=4, neuron="lif", head="anchor", in_channels=3, width=1.0) -> Detector:
    """Published `res10-ee.yaml`: the EMS-Res10 of the paper by its size. 6,387,230 parameters at 80 classes."""
    table = Table(STEM(32), [CAT_MS(c, 2) for c in (64, 128, 256, 512)], *_neck(MS, CAT_MS, MS, MS))
    return _detector(table, num_classes, T, neuron, head, in_channels, width)


@register_model
def ems_resnet18_ee(num_classes=80, T=4, neuron="lif", head="anchor", in_channels=3, width=1.0) -> Detector:
    """Published `res18-ee.yaml`: the EMS-Res18 of the paper by its size. 9,523,550 parameters at 80 classes."""
    table = Table(STEM(32), _eighteen(MS, CAT_MS), *_neck(MS, CAT_MS, MS, MS))
    return _detector(table, num_classes, T, neuron, head, in_channels, width)


@register_model
def sew_resnet18(num_classes=80, T=4, neuron="lif", head="anchor", in_channels=3, width=1.0) -> Detector:
    """Published `res18-sew.yaml`, an ablation: all neurons graded. 9,743,134 parameters."""
    table = Table(GRADED(32, 2), _eighteen(SEW, SEW), *_neck(SEW, SEW, SEW, SEW))
    return _detector(table, num_classes, T, neuron, head, in_channels, width)
