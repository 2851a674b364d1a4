"""SpikingYOLOX: YOLOX with Fourier convolutions and ternary spikes, the published sizes, weight names; its PLIF port.

Miao et al., "SpikingYOLOX: Improved YOLOX Object Detection with Fast Fourier Convolution and Spiking Neural Networks",
AAAI 2025, from its released code, whose network has three spiking layers, T = 1, and a "signed" neuron that never emits
-1: it equals `if` with a hard reset. `spike_stages="released"` is that network. The others go on to what the paper is
about: "deep" and "full" have ternary spikes, "backup" is a second backbone in the same repository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from neurons import NeuronSpec, neuron_factory
from registry import UserError, none_of

from ..detector import Detector
from ..encoders import direct
from ..heads import HeadSpec, build_head
from ..layers.csp import Bottleneck, CSPLayer, Factory, Focus, Stem6x6, unit
from ..layers.csp_darknet import YOLOXNetwork, in_container, published_name, repeats, stage5
from ..layers.ffc import FFCResnetBlock, SpectralTransform
from ..layers.time import over_time
from ..registry import register_model

SIGNED_IF = {"name": "if", "v_reset": 0.0, "surrogate": {"name": "sigmoid", "alpha": 4.0}}  # what it does as released
LIF = {
    "name": "lif", "tau": 2.0, "v_threshold": 1.0, "decay_input": True, "surrogate": {"name": "atan", "alpha": 2.0},
    "detach_reset": False, "fires_at_threshold": True,
}  # fmt: skip
TERNARY = {"name": "ternary_if"}
PLIF = {"name": "plif", "surrogate": {"name": "sigmoid", "alpha": 2.0}}
HEAD = {"name": "yolox", "assignment": "box_or_centre", "l1_epochs": 0, "nms_iou": 0.5}
NANO_HEAD = {**HEAD, "depthwise": True}
PORT_HEAD = {"name": "yolox", "l1_epochs": 15, "score_threshold": 0.01}


class Stages(NamedTuple):
    """Where a network spikes; the CSP layer of dark5, the stage at stride 32, always does."""

    neuron: Mapping[str, Any]  # default
    dark5: bool  # the strided convolution and the pyramid pooling of dark5
    blocks: bool  # within the blocks of its CSP layer, in place of ELU and, in the spectrum, ReLU
    backbone: bool  # stem and stages before dark5
    outside: bool  # neck and head


STAGES = {
    "released": Stages(SIGNED_IF, dark5=False, blocks=False, backbone=False, outside=False),
    "deep": Stages(TERNARY, dark5=True, blocks=True, backbone=False, outside=False),
    "full": Stages(TERNARY, dark5=True, blocks=True, backbone=True, outside=True),
    "backup": Stages(LIF, dark5=True, blocks=False, backbone=True, outside=False),
}
BLOCKS = ("ffc", "conv")


class Size(NamedTuple):
    """depth, width: factors on the repeats and channels of YOLOX. depthwise: 3 x 3 convolutions per channel."""

    depth: float
    width: float
    depthwise: bool = False

    def base(self, width: float) -> int:
        """Channels of the stem in a network of `width` times the published width."""
        return max(int(64 * self.width * width), 1)


class SpikingYOLOXNetwork(YOLOXNetwork):
    """A `YOLOXNetwork` whose parameters have the names of the released code."""

    published_head = "head"

    def published_names(self) -> dict[str, str]:
        names = {key: published_name(key) for key in self.state_dict() if "neuron" not in key}
        return {key: published_spectral(name) for key, name in names.items() if name}


def published_spectral(name: str) -> str:
    """`name` as the released code has it, where it is of a part of a SpectralTransform."""
    own = SpectralTransform.published
    return re.sub(r"\.convg2g\.(\w+\.\w+)\.", lambda part: f".convg2g.{own.get(part[1], part[1])}.", name)


class PortNetwork(YOLOXNetwork):
    """A `YOLOXNetwork` whose parameters have the names of the static port, where every convolution is wrapped."""

    @staticmethod
    def published_head(name: str) -> str:
        return in_container(f"head.{name}")

    def published_names(self) -> dict[str, str]:
        return {key: in_container(name) for key in self.state_dict() if (name := published_name(key))}


class SEWBottleneck(nn.Module):
    """neuron(norm2(conv2(neuron(norm1(conv1(x)))))) + x: the 1 x 1 and 3 x 3 units of a bottleneck, each with a second
    normalisation and a second neuron. norm2 is an instance normalisation without parameters."""

    def __init__(self, c: int, make: Factory):
        super().__init__()
        self.conv1, self.norm1, self.neuron1 = unit(c, c, make()), nn.BatchNorm2d(c), make()
        self.conv2, self.norm2, self.neuron2 = unit(c, c, make(), 3), nn.InstanceNorm2d(c), make()

    def forward(self, x: Tensor) -> Tensor:
        y = self.neuron1(over_time(self.norm1, self.conv1(x)))
        return self.neuron2(over_time(self.norm2, self.conv2(y))) + x


def _detector(
    size: Size, num_classes: int, T: int, neuron: NeuronSpec | None, head: HeadSpec, in_channels: int, width: float,
    spike_stages: str, block: str, pixels: str | None,
) -> Detector:  # fmt: skip
    """
    Args:
        neuron: in place of activations; None: that of the stages. `silu` or `relu` give an ANN of the same layers.
        spike_stages: the key of `STAGES`. In "released" these are 1 x 1 convolutions around the blocks of dark5, in
            "deep" all of dark5, in "full" all of network and head; other activations are SiLU, in the blocks ELU and
            ReLU. "backup": FFC blocks also in dark3 and dark4, SEWBottlenecks in dark2, LIF neurons in all units of
            the backbone. Measured were its layers, names and shapes, numbers of LIF, ELU and ReLU. Inferred are the
            order within `SEWBottleneck` and its norm2, which has no parameters to be seen; neck and head, since it does
            not run with the released ones; and for the sizes nano and tiny everything.
        block: of the CSP layer in dark5: "ffc", or "conv", bottlenecks of two dense convolutions with a shortcut, which
            have 1.3 to 1.6 % fewer parameters than FFC blocks, 0.1 to 0.25 % of the network.
        pixels: of the images that the network gets. None: 0..1; "imagenet" for the published weights.
    """
    for name, value, known in (("spike_stages", spike_stages, STAGES), ("block", block, BLOCKS)):
        if value not in known:
            raise UserError(none_of(f"{name} = {value!r}", value, known))
    stages, base, n = STAGES[spike_stages], size.base(width), repeats(size.depth)
    make, silu = neuron_factory(stages.neuron if neuron is None else neuron), neuron_factory("silu")

    def where(spiking: bool) -> Factory:
        return make if spiking else silu

    def blocks(c: int, count: int) -> list[nn.Module]:
        if block == "conv":
            return [Bottleneck(c, where(stages.blocks)) for _ in range(count)]
        return [FFCResnetBlock(c, *((make, make) if stages.blocks else ())) for _ in range(count)]

    backbone, outside = where(stages.backbone), where(stages.outside)
    dark5 = stage5(8 * base, 16 * base, blocks(8 * base, n), make, where(stages.dark5), size.depthwise)
    stem = Focus(in_channels, base, backbone())
    network = SpikingYOLOXNetwork(stem, base, size.depth, backbone, outside, dark5, size.depthwise)
    if spike_stages == "backup":
        network.dark2[1] = CSPLayer(2 * base, 2 * base, make, [SEWBottleneck(base, make) for _ in range(n)])
        network.dark3[1] = CSPLayer(4 * base, 4 * base, make, blocks(2 * base, 3 * n))
        network.dark4[1] = CSPLayer(8 * base, 8 * base, make, blocks(4 * base, 3 * n))
    head = build_head(head, network.channels, network.strides, num_classes, outside)
    return Detector(network, head, direct(T, pixels))


def _own_neuron(arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
    stages = STAGES.get(arguments["spike_stages"])
    return stages and stages.neuron


registered = register_model(depending={"neuron": _own_neuron})


@registered
def spiking_yolox_nano(
    num_classes=80, T=1, neuron=None, head=NANO_HEAD, in_channels=3, width=1.0, spike_stages="released", block="ffc",
    pixels=None,
) -> Detector:  # fmt: skip
    """1,044,447 parameters at 80 classes."""
    size = Size(0.33, 0.25, depthwise=True)
    return _detector(size, num_classes, T, neuron, head, in_channels, width, spike_stages, block, pixels)


@registered
def spiking_yolox_tiny(
    num_classes=80, T=1, neuron=None, head=HEAD, in_channels=3, width=1.0, spike_stages="released", block="ffc",
    pixels=None,
) -> Detector:  # fmt: skip
    """5,061,327 parameters at 80 classes."""
    return _detector(Size(0.33, 0.375), num_classes, T, neuron, head, in_channels, width, spike_stages, block, pixels)


@registered
def spiking_yolox_s(
    num_classes=80, T=1, neuron=None, head=HEAD, in_channels=3, width=1.0, spike_stages="released", block="ffc",
    pixels=None,
) -> Detector:  # fmt: skip
    """8,977,599 parameters at 80 classes."""
    return _detector(Size(0.33, 0.5), num_classes, T, neuron, head, in_channels, width, spike_stages, block, pixels)


@registered
def spiking_yolox_m(
    num_classes=80, T=1, neuron=None, head=HEAD, in_channels=3, width=1.0, spike_stages="released", block="ffc",
    pixels=None,
) -> Detector:  # fmt: skip
    """25,366,815 parameters at 80 classes."""
    return _detector(Size(0.67, 0.75), num_classes, T, neuron, head, in_channels, width, spike_stages, block, pixels)


@registered
def spiking_yolox_l(
    num_classes=80, T=1, neuron=None, head=HEAD, in_channels=3, width=1.0, spike_stages="released", block="ffc",
    pixels=None,
) -> Detector:  # fmt: skip
    """54,314,111 parameters at 80 classes."""
    return _detector(Size(1.0, 1.0), num_classes, T, neuron, head, in_channels, width, spike_stages, block, pixels)


@registered
def spiking_yolox_x(
    num_classes=80, T=1, neuron=None, head=HEAD, in_channels=3, width=1.0, spike_stages="released", block="ffc",
    pixels=None,
) -> Detector:  # fmt: skip
    """99,287,775 parameters at 80 classes."""
    return _detector(Size(1.33, 1.25), num_classes, T, neuron, head, in_channels, width, spike_stages, block, pixels)


def _port(
    size: Size, num_classes: int, T: int, neuron: NeuronSpec, head: HeadSpec, in_channels: int, width: float,
    pixels: str | None,
) -> Detector:  # fmt: skip
    """The EAS-SNN authors' port of their detector to images: every activation is a PLIF neuron, all blocks YOLOX's.

    pixels: of the images that the network gets; None: 0..1, "bgr255" for published weights, if these were trained as
    YOLOX's. Differs from the published training, where no optimizer has the time constants, in that they are trained.
    """
    make, base = neuron_factory(neuron), size.base(width)
    network = PortNetwork(Stem6x6(in_channels, base, make()), base, size.depth, make, make)
    return Detector(network, build_head(head, network.channels, network.strides, num_classes, make), direct(T, pixels))


@register_model
def spiking_yolox_plif_s(
    num_classes=20, T=3, neuron=PLIF, head=PORT_HEAD, in_channels=3, width=1.0, pixels=None
) -> Detector:
    """8,945,109 parameters at 20 classes."""
    return _port(Size(0.33, 0.5), num_classes, T, neuron, head, in_channels, width, pixels)


@register_model
def spiking_yolox_plif_m(
    num_classes=20, T=3, neuron=PLIF, head=PORT_HEAD, in_channels=3, width=1.0, pixels=None
) -> Detector:
    """25,291,853 parameters at 20 classes."""
    return _port(Size(0.67, 0.75), num_classes, T, neuron, head, in_channels, width, pixels)


@register_model
def spiking_yolox_plif_l(
    num_classes=20, T=3, neuron=PLIF, head=PORT_HEAD, in_channels=3, width=1.0, pixels=None
) -> Detector:
    """54,162,757 parameters at 20 classes."""
    return _port(Size(1.0, 1.0), num_classes, T, neuron, head, in_channels, width, pixels)
