"""Spiking YOLOv3: YOLOv3-tiny without pooling and upsampling, trained as an ANN and converted to spikes.

The network of the published code `yolov3-tiny-ours`: every pooling is a 3 x 3 convolution of stride 2, the upsampling a
transposed convolution, each with BatchNorm and activation. With ReLU it is the paper's Spiking YOLOv3, with the
clip-floor-shift activation (Bu et al., ICLR 2022) its Spiking YOLOv3-FC.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from neurons import NeuronSpec, neuron_factory

from ..detector import Detector
from ..encoders import DirectEncoder
from ..heads import HeadSpec, build_head
from ..layers.conv_unit import ConvUnit
from ..layers.layout import concat
from ..layers.resample import crop_to
from ..layers.width import scaled
from ..published import names_of_rows
from ..registry import register_model

# Published index of each layer; 15, 16 and 19 are the detection of P5, a route and the concatenation.
ROWS = {f"conv{i + 1}": i for i in range(14)} | {"conv16": 17, "up": 18, "conv17": 20}


class Unit(ConvUnit):
    """A layer with the BatchNorm constants and the names of the published code."""

    def __init__(self, c1: int, c2: int, neuron: nn.Module, k: int = 3, s: int = 1, transposed: bool = False):
        super().__init__(c1, c2, neuron, k, s, transposed, eps=1e-4, momentum=0.03)
        self.published = {"conv": "ConvTranspose2d" if transposed else "Conv2d", "bn": "BatchNorm2d"}


class SpikingYOLOv3Network(nn.Module):
    """x [T, B, C, H, W] -> [P4 at stride 16, P5 at stride 32], each [T, B, C_l, H_l, W_l].

        conv1 ... conv9 - conv10 - conv11 - conv12 - conv13 - conv14 = P5
                    |                            +-- conv16 - up (transposed convolution) -+
                    +---------------------------------------------------------------- concat - conv17 = P4

    Layers have the numbers of the paper's table, whose 15 and 18 are the head's.
    """

    strides = (16, 32)
    neck = ("conv14", "conv16", "up", "conv17")
    published_head = {"m.0": "module_list.21.Conv2d", "m.1": "module_list.14.Conv2d"}

    def __init__(self, neuron: NeuronSpec, in_channels: int, width: float):
        super().__init__()
        make, w = neuron_factory(neuron), partial(scaled, width=width)

        def unit(c1: int, c2: int, k: int = 3, s: int = 1, transposed: bool = False) -> Unit:
            return Unit(c1, c2, make(), k, s, transposed)

        self.conv1 = unit(in_channels, w(16))
        self.conv2 = unit(w(16), w(16), s=2)
        self.conv3 = unit(w(16), w(32))
        self.conv4 = unit(w(32), w(32), s=2)
        self.conv5 = unit(w(32), w(64))
        self.conv6 = unit(w(64), w(64), s=2)
        self.conv7 = unit(w(64), w(128))
        self.conv8 = unit(w(128), w(128), s=2)
        self.conv9 = unit(w(128), w(256))
        self.conv10 = unit(w(256), w(256), s=2)
        self.conv11 = unit(w(256), w(512))
        self.conv12 = unit(w(512), w(1024))
        self.conv13 = unit(w(1024), w(256), k=1)
        self.conv14 = unit(w(256), w(512))
        self.conv16 = unit(w(256), w(128), k=1)
        self.up = unit(w(128), w(128), s=2, transposed=True)
        self.conv17 = unit(w(128) + w(256), w(256))
        self.channels = (w(256), w(512))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.conv4(self.conv3(self.conv2(self.conv1(x))))
        x = self.conv8(self.conv7(self.conv6(self.conv5(x))))
        c4 = self.conv9(x)
        c5 = self.conv13(self.conv12(self.conv11(self.conv10(c4))))
        p5 = self.conv14(c5)
        up = crop_to(self.up(self.conv16(c5)), c4)
        return [self.conv17(concat([up, c4])), p5]

    def published_names(self) -> dict[str, str]:
        return names_of_rows(self, ROWS, table="module_list")


def _detector(num_classes: int, T: int, neuron: NeuronSpec, head: HeadSpec, in_channels: int, width: float) -> Detector:
    make = neuron_factory(neuron)
    network = SpikingYOLOv3Network(make, in_channels, width)
    return Detector(network, build_head(head, network.channels, network.strides, num_classes, make), DirectEncoder(T))


@register_model
def spiking_yolov3(num_classes=80, T=1, neuron="relu", head="anchor", in_channels=3, width=1.0) -> Detector:
    """Spiking YOLOv3 before its conversion. 9,786,734 parameters at 80 classes, 9,648,134 at 20.

    Differs from the published code in the finest level's anchors: there those of index 1, 2, 3 of six, so that index 0
    is unused and index 3 on both levels; here, unless the head's `anchors` say otherwise, 0, 1, 2.
    """
    return _detector(num_classes, T, neuron, head, in_channels, width)


@register_model
def spiking_yolov3_fc(
    num_classes=80, T=1, neuron={"name": "qcfs", "L": 256}, head="anchor", in_channels=3, width=1.0  # noqa: B006
) -> Detector:  # fmt: skip
    """Spiking YOLOv3-FC, in the paper's tables also -CF: clip-floor-shift activations of L levels with a learned
    threshold each (17 parameters more). L = 256 is the paper's for VOC and COCO; for UAV it is 128."""
    return _detector(num_classes, T, neuron, head, in_channels, width)
