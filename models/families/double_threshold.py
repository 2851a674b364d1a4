"""Backbones of double-threshold conversion, trained as ANNs with the clipped leaky ReLU `sth`.

The paper converts classifiers (VGG16, ResNet-20 on CIFAR-10) to neurons that fire +1 above one threshold and -1 below
another. Max pooling becomes average pooling, which is linear. Differs from the paper in all that makes a detector of
them: the head, the strides 16 and 32 (tiny: 32) of the maps it reads, and the widths, none of which it gives; and in
the threshold of `sth`, which is learned for each layer, where the paper has one constant for all, without its value.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from neurons import NeuronSpec, neuron_factory

from ..contracts import Network
from ..detector import Detector
from ..encoders import DirectEncoder
from ..heads import HeadSpec, build_head
from ..layers.conv_unit import ConvUnit
from ..layers.time import over_time
from ..layers.width import scaled
from ..registry import register_model
from .spiking_yolo import HEAD, POOLS, TinyYOLONetwork


class VGG16Network(nn.Module):
    """x [T, B, C, H, W] -> [P4 at stride 16, P5 at stride 32], each [T, B, C_l, H_l, W_l].

    The 13 convolutions of VGG16 in five stages; P4 is the fifth. One more, on its pooled map, is in place of the fully
    connected layers and gives P5.
    """

    strides = (16, 32)
    stages = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions

    def __init__(self, neuron: NeuronSpec, in_channels: int, width: float):
        super().__init__()
        make, w = neuron_factory(neuron), partial(scaled, width=width)

        def stage(c1: int, c2: int, convolutions: int) -> nn.Sequential:
            return nn.Sequential(*(ConvUnit(c1 if i == 0 else c2, c2, make()) for i in range(convolutions)))

        (c1, n1), (c2, n2), (c3, n3), (c4, n4), (c5, n5) = ((w(channels), n) for channels, n in self.stages)
        self.stage1, self.pool1 = stage(in_channels, c1, n1), POOLS["average"](2, 2)
        self.stage2, self.pool2 = stage(c1, c2, n2), POOLS["average"](2, 2)
        self.stage3, self.pool3 = stage(c2, c3, n3), POOLS["average"](2, 2)
        self.stage4, self.pool4 = stage(c3, c4, n4), POOLS["average"](2, 2)
        self.stage5, self.pool5 = stage(c4, c5, n5), POOLS["average"](2, 2)
        self.last = ConvUnit(c5, c5, make())
        self.channels = (c5, c5)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = over_time(self.pool1, self.stage1(x))
        x = over_time(self.pool2, self.stage2(x))
        x = over_time(self.pool3, self.stage3(x))
        p4 = self.stage5(over_time(self.pool4, self.stage4(x)))
        return [p4, self.last(over_time(self.pool5, p4))]


class ResidualBlock(nn.Module):
    """y = f(BN(conv(f(BN(conv x)))) + shortcut(x)): the neuron f follows the sum.

    Convolutions are 3 x 3, the first strided. The shortcut is the identity, or, where the shape changes, convolution
    1 x 1 - BN.
    """

    def __init__(self, c1: int, c2: int, neuron: NeuronSpec, s: int = 1):
        super().__init__()
        make = neuron_factory(neuron)
        self.conv1 = ConvUnit(c1, c2, make(), s=s)
        self.conv2 = ConvUnit(c2, c2, None)
        self.shortcut = ConvUnit(c1, c2, None, k=1, s=s) if s != 1 or c1 != c2 else nn.Identity()
        self.neuron = make()

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.conv2(self.conv1(x)) + self.shortcut(x))


class ResNet20Network(nn.Module):
    """x [T, B, C, H, W] -> [P4 at stride 16, P5 at stride 32], each [T, B, C_l, H_l, W_l].

    A convolution and three stages of three blocks, as in ResNet-20 for CIFAR-10. There strides are 1, 1, 2, 2; here the
    first convolution and all stages have stride 2, and an average pooling follows the first, which gives 32 in all.
    """

    strides = (16, 32)

    def __init__(self, neuron: NeuronSpec, in_channels: int, width: float):
        super().__init__()
        make, w = neuron_factory(neuron), partial(scaled, width=width)

        def stage(c1: int, c2: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(c1 if i == 0 else c2, c2, make, 2 if i == 0 else 1) for i in range(3)))

        self.stem, self.pool = ConvUnit(in_channels, w(64), make(), s=2), POOLS["average"](2, 2)
        self.stage1, self.stage2, self.stage3 = stage(w(64), w(64)), stage(w(64), w(128)), stage(w(128), w(256))
        self.channels = (w(128), w(256))

    def forward(self, x: Tensor) -> list[Tensor]:
        p4 = self.stage2(self.stage1(over_time(self.pool, self.stem(x))))
        return [p4, self.stage3(p4)]


def _detector(network: Network, num_classes: int, T: int, neuron: NeuronSpec, head: HeadSpec) -> Detector:
    make = neuron_factory(neuron)
    return Detector(network, build_head(head, network.channels, network.strides, num_classes, make), DirectEncoder(T))


@register_model
def double_threshold_tiny(num_classes=80, T=1, neuron="sth", head=HEAD, in_channels=3, width=1.0) -> Detector:
    """Tiny YOLOv2 with average pooling, one level of stride 32. 16,169,281 parameters at 80 classes."""
    return _detector(TinyYOLONetwork(neuron, in_channels, width, "average"), num_classes, T, neuron, head)


@register_model
def double_threshold_vgg16(num_classes=80, T=1, neuron="sth", head="anchor", in_channels=3, width=1.0) -> Detector:
    """VGG16 with average pooling and one more convolution, for stride 32. 17,340,876 parameters at 80 classes."""
    return _detector(VGG16Network(neuron, in_channels, width), num_classes, T, neuron, head)


@register_model
def double_threshold_resnet20(num_classes=80, T=1, neuron="sth", head="anchor", in_channels=3, width=1.0) -> Detector:
    """ResNet-20 with stages of 64, 128 and 256 channels, four times those for CIFAR-10, which `width=0.25` gives.
    4,427,857 parameters at 80 classes."""
    return _detector(ResNet20Network(neuron, in_channels, width), num_classes, T, neuron, head)
