"""The network of YOLOX: CSPDarknet and a feature pyramid with a way down (PAFPN), for any neurons."""

from __future__ import annotations

import re
from collections.abc import Collection

from torch import Tensor, nn

from .csp import SPP, Bottleneck, CSPLayer, Factory, conv, unit
from .layout import concat
from .resample import upsample_to


class YOLOXNetwork(nn.Module):
    """x [T, B, C, H, W] -> [P3, P4, P5] at strides 8, 16, 32, each [T, B, C_l, H_l, W_l].

    A stem of stride 2 and four stages, at strides 4, 8, 16, 32, give `features`; `fuse`, the neck, goes from stride 32
    up to 8 and back down.

    Args:
        stem: gives `base` channels at stride 2; the stages have 2, 4, 8 and 16 times as many.
        depth: of the size; 1 is three bottlenecks per CSP layer, nine in the two middle stages.
        backbone, neck: make the neurons of these parts.
        dark5: the last stage, where it is not that of YOLOX: `stage5`.
        depthwise: 3 x 3 convolutions per channel.
    """

    strides = (8, 16, 32)

    def __init__(
        self, stem: nn.Module, base: int, depth: float, backbone: Factory, neck: Factory,
        dark5: nn.Module | None = None, depthwise: bool = False,
    ):  # fmt: skip
        super().__init__()
        c2, c3, c4, c5 = (base * k for k in (2, 4, 8, 16))
        n = repeats(depth)

        def csp(c1: int, c: int, make: Factory, count: int, shortcut: bool) -> CSPLayer:
            return CSPLayer(c1, c, make, (Bottleneck(c // 2, make, shortcut, depthwise) for _ in range(count)))

        def stage(c1: int, c: int, count: int) -> nn.Sequential:
            return nn.Sequential(conv(c1, c, backbone, 3, 2, depthwise), csp(c, c, backbone, count, True))

        self.stem = stem
        self.dark2, self.dark3, self.dark4 = stage(base, c2, n), stage(c2, c3, 3 * n), stage(c3, c4, 3 * n)
        if dark5 is None:
            blocks = [Bottleneck(c5 // 2, backbone, False, depthwise) for _ in range(n)]
            dark5 = stage5(c4, c5, blocks, backbone, depthwise=depthwise)
        self.dark5 = dark5
        # Up: each lateral goes to the finer map, and on the way down to the coarser one again.
        self.neck_lateral5, self.neck_top4 = unit(c5, c4, neck()), csp(2 * c4, c4, neck, n, False)
        self.neck_lateral4, self.neck_p3 = unit(c4, c3, neck()), csp(2 * c3, c3, neck, n, False)
        # Down.
        self.neck_down4, self.neck_p4 = conv(c3, c3, neck, 3, 2, depthwise), csp(2 * c3, c4, neck, n, False)
        self.neck_down5, self.neck_p5 = conv(c4, c4, neck, 3, 2, depthwise), csp(2 * c4, c5, neck, n, False)
        self.channels = (c3, c4, c5)

    def features(self, x: Tensor) -> list[Tensor]:
        c3 = self.dark3(self.dark2(self.stem(x)))
        c4 = self.dark4(c3)
        return [c3, c4, self.dark5(c4)]

    def fuse(self, maps: list[Tensor]) -> list[Tensor]:
        c3, c4, c5 = maps
        lateral5 = self.neck_lateral5(c5)
        top4 = self.neck_top4(concat([upsample_to(lateral5, c4), c4]))
        lateral4 = self.neck_lateral4(top4)
        p3 = self.neck_p3(concat([upsample_to(lateral4, c3), c3]))
        p4 = self.neck_p4(concat([self.neck_down4(p3), lateral4]))
        p5 = self.neck_p5(concat([self.neck_down5(p4), lateral5]))
        return [p3, p4, p5]

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.fuse(self.features(x))


def repeats(depth: float) -> int:
    """Blocks of the CSP layers outside the two middle stages, which have three times as many."""
    return max(round(3 * depth), 1)


def stage5(
    c1: int,
    c2: int,
    blocks: Collection[nn.Module],
    make: Factory,
    first: Factory | None = None,
    depthwise: bool = False,
) -> nn.Sequential:
    """The stage at stride 32: a strided convolution, `SPP`, a CSP layer around `blocks` of c2 // 2 channels.

    first: makes the neurons of the convolution and of `SPP`, where they are not those of the CSP layer.
    """
    before = make if first is None else first
    return nn.Sequential(conv(c1, c2, before, 3, 2, depthwise), SPP(c2, c2, before), CSPLayer(c2, c2, make, blocks))


PARTS = {
    "stem": "backbone.backbone.stem", **{f"dark{i}": f"backbone.backbone.dark{i}" for i in (2, 3, 4, 5)},
    "neck_lateral5": "backbone.lateral_conv0", "neck_top4": "backbone.C3_p4", "neck_lateral4": "backbone.reduce_conv1",
    "neck_p3": "backbone.C3_p3", "neck_down4": "backbone.bu_conv2", "neck_p4": "backbone.C3_n3",
    "neck_down5": "backbone.bu_conv1", "neck_p5": "backbone.C3_n4",
}  # fmt: skip


def published_name(key: str) -> str | None:
    """The published name of a parameter of a `YOLOXNetwork`; None for parameters of neurons that none published."""
    part, _, rest = key.partition(".")
    name = f"{PARTS[part]}.{rest}"
    if ".neuron." not in name:
        return name
    return name.replace(".neuron.w", ".act.w") if name.endswith(".neuron.w") else None


def in_container(name: str) -> str:
    """`name` where the published code has wrapped its convolutions to take all steps: conv.weight -> conv.0.weight."""
    return re.sub(r"((?:^|\.)conv|_preds\.\d+)\.(weight|bias)$", r"\1.0.\2", name)
