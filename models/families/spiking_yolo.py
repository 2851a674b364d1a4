"""Spiking-YOLO: Tiny YOLOv2, trained as an ANN with leaky ReLU and converted to signed integrate-and-fire neurons.

Kim et al., "Spiking-YOLO: Spiking Neural Network for Energy-Efficient Object Detection", AAAI 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from neurons import NeuronSpec, neuron_factory
from registry import UserError

from ..detector import Detector
from ..encoders import DirectEncoder
from ..heads import build_head
from ..layers.conv_unit import ConvUnit
from ..layers.time import over_time
from ..layers.width import scaled
from ..registry import register_model

# Boxes as YOLOv2 codes them, each in its own cell: on one coarse level, neighbours that match as well would often hold
# other objects.
HEAD = {"name": "anchor", "coding": "yolov3"}

# Odd sizes round up, as in strided convolutions; a window cut by the border averages its pixels.
POOLS: dict[str, Callable[[int, int], nn.Module]] = {
    "max": lambda k, s: nn.MaxPool2d(k, s, ceil_mode=True),
    "average": lambda k, s: nn.AvgPool2d(k, s, ceil_mode=True),
}


class TinyYOLONetwork(nn.Module):
    """x [T, B, C, H, W] -> [map at stride 32], [T, B, C', H', W']: conv1 to conv8 of Tiny YOLOv2; conv9 is the head.

    conv1 to conv5 are each followed by a 2 x 2 pooling, conv6 by one with stride 1, whose windows at the right and
    lower border hold a column or row of zeros. Differs from Darknet there, which is said to pad with -inf: after leaky
    ReLU zeros exceed negative outputs.
    """

    strides = (32,)

    def __init__(self, neuron: NeuronSpec, in_channels: int, width: float, pool: str = "max", conv8: int = 1024):
        super().__init__()
        if pool not in POOLS:
            raise UserError(f"pool = {pool!r}: choose one of {', '.join(POOLS)}")
        make, w = neuron_factory(neuron), partial(scaled, width=width)

        def unit(c1: int, c2: int) -> ConvUnit:
            return ConvUnit(c1, c2, make())

        self.conv1, self.pool1 = unit(in_channels, w(16)), POOLS[pool](2, 2)
        self.conv2, self.pool2 = unit(w(16), w(32)), POOLS[pool](2, 2)
        self.conv3, self.pool3 = unit(w(32), w(64)), POOLS[pool](2, 2)
        self.conv4, self.pool4 = unit(w(64), w(128)), POOLS[pool](2, 2)
        self.conv5, self.pool5 = unit(w(128), w(256)), POOLS[pool](2, 2)
        self.conv6, self.pad6, self.pool6 = unit(w(256), w(512)), nn.ZeroPad2d((0, 1, 0, 1)), POOLS[pool](2, 1)
        self.conv7 = unit(w(512), w(1024))
        self.conv8 = unit(w(1024), w(conv8))
        self.channels = (w(conv8),)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = over_time(self.pool1, self.conv1(x))
        x = over_time(self.pool2, self.conv2(x))
        x = over_time(self.pool3, self.conv3(x))
        x = over_time(self.pool4, self.conv4(x))
        x = over_time(self.pool5, self.conv5(x))
        x = over_time(self.pool6, over_time(self.pad6, self.conv6(x)))
        return [self.conv8(self.conv7(x))]


@register_model
def spiking_yolo(
    num_classes=80, T=1, neuron="leaky_relu", head=HEAD, in_channels=3, width=1.0, pool="max", conv8=1024
) -> Detector:
    """Spiking-YOLO before its conversion. 16,169,273 parameters at 80 classes, 15,861,773 at 20.

    Nine convolutions: the paper's text counts 8 and 2 fully connected layers, its operations are those of nine. Differs
    from the paper in the loss, which is the anchor head's in place of YOLOv2's.

    Args:
        pool: max, or average, which converts without gates.
        conv8: channels of the last hidden layer: 1024, or 512 as in Darknet's network for COCO.
    """
    make = neuron_factory(neuron)
    network = TinyYOLONetwork(make, in_channels, width, pool, conv8)
    return Detector(network, build_head(head, network.channels, network.strides, num_classes, make), DirectEncoder(T))
