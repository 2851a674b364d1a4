"""Spiking-YOLO's Tiny YOLOv2 and the double-threshold backbones: operations, weights, and their wiring.

The wiring is compared with a second implementation of the tables, in plain functions on [B, C, H, W].
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from models import create_model


def counted(name, num_classes, **kwargs):
    """(multiplications of an image of 416 x 416, weights of all convolutions, shapes of the logits)."""
    with FakeTensorMode() as shapes_only:
        model = create_model(name, num_classes=num_classes, **kwargs).eval()
    macs = 0

    def count(conv, args, y):
        nonlocal macs
        macs += y[:, 0].numel() * conv.weight.numel()

    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    for conv in convolutions:
        conv.register_forward_hook(count)
    with shapes_only, torch.no_grad():
        shapes = [tuple(level.shape) for level in model.raw(torch.zeros(1, 3, 416, 416))]
    return macs, sum(conv.weight.numel() for conv in convolutions), shapes


def test_operations_are_those_of_the_papers_energy_table():
    """6.97E9 floating point operations: two for each multiplication of nine convolutions with 125 outputs."""
    macs, weights, shapes = counted("spiking_yolo", 20)
    assert macs == 3_485_520_896 and round(2 * macs / 1e9, 2) == 6.97
    assert weights == 15_855_536 and shapes == [(1, 5, 13, 13, 25)]


def test_conv8_is_narrower_in_the_variant_for_coco():
    assert counted("spiking_yolo", 80)[1] - counted("spiking_yolo", 80, conv8=512)[1] == 512 * (9 * 1024 + 425)


def test_the_head_has_the_anchors_of_yolov2_tiny():
    anchors = create_model("spiking_yolo", width=0.125).head.anchors
    assert anchors.shape == (1, 5, 2)
    torch.testing.assert_close(anchors[0, [0, 4]] / 32, torch.tensor([[1.08, 1.19], [16.62, 10.52]]))


def test_unknown_pooling_is_named():
    with pytest.raises(ValueError, match="pool = 'mean': choose one of max, average"):
        create_model("spiking_yolo", width=0.125, pool="mean")


class Plain:
    """Functions on the weights of a model: convolution, BatchNorm, activation by the name of the layer."""

    def __init__(self, model, activation):
        self.state, self.activation = model.network.state_dict(), activation

    def linear(self, name, x, stride=1):
        s = self.state
        w = s[f"{name}.conv.weight"]
        y = F.conv2d(x, w, None, stride, w.shape[-1] // 2)
        statistics = (s[f"{name}.bn.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *statistics, eps=1e-5)

    def __call__(self, name, x, stride=1):
        return self.activation(self.linear(name, x, stride))


def clipped(x):
    """Clipped leaky ReLU with slope 0.1 and threshold 4."""
    return torch.where(x >= 0, x.clamp(max=4), (0.1 * x).clamp(min=-4))


def averaged(x):
    """2 x 2; a window cut by the border averages its pixels."""
    ones = F.pad(torch.ones_like(x), (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
    x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
    window = lambda m: m[..., ::2, ::2] + m[..., 1::2, ::2] + m[..., ::2, 1::2] + m[..., 1::2, 1::2]  # noqa: E731
    return window(x) / window(ones)


def largest(x):
    x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), value=-torch.inf)
    return x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).amax((-1, -3))


def tiny(run, x, pooled, last):
    for i in range(1, 6):
        x = pooled(run(f"conv{i}", x))
    x = F.pad(run("conv6", x), (0, 1, 0, 1))
    x = last([x[..., :-1, :-1], x[..., 1:, :-1], x[..., :-1, 1:], x[..., 1:, 1:]])
    return [run("conv8", run("conv7", x))]


def vgg16(run, x):
    maps = []
    for stage, convolutions in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(convolutions):
            x = run(f"stage{stage}.{i}", x)
        maps.append(x)
        x = averaged(x)
    return [maps[-1], run("last", x)]


def resnet20(run, x):
    x, maps = averaged(run("stem", x, 2)), []
    for stage in (1, 2, 3):
        for i in range(3):
            block, stride = f"stage{stage}.{i}", 2 if i == 0 else 1
            skip = run.linear(f"{block}.shortcut", x, 2) if i == 0 else x
            x = run.activation(run.linear(f"{block}.conv2", run(f"{block}.conv1", x, stride)) + skip)
        maps.append(x)
    return maps[1:]


NETWORKS = {
    "spiking_yolo": (
        lambda x: F.leaky_relu(x, 0.1),
        lambda run, x: tiny(run, x, largest, lambda w: torch.stack(w).amax(0)),
    ),
    "double_threshold_tiny": (clipped, lambda run, x: tiny(run, x, averaged, lambda w: torch.stack(w).mean(0))),
    "double_threshold_vgg16": (clipped, vgg16),
    "double_threshold_resnet20": (clipped, resnet20),
}


@pytest.mark.parametrize("size", [(64, 96), (100, 140)], ids=["even", "odd"])
@pytest.mark.parametrize("name", NETWORKS)
def test_wiring_equals_the_table_in_plain_functions(name, size):
    torch.manual_seed(0)
    activation, network = NETWORKS[name]
    model = create_model(name, num_classes=3, width=0.125).double().train()
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.uniform_(0.8, 1.6)
                m.bias.uniform_(-0.4, 0.4)
        for _ in range(3):
            model.raw(x)
        model.eval()
        ours, theirs = model.network(x[None]), network(Plain(model, activation), x)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert (other < 0).any() and (other > 0).any()
        torch.testing.assert_close(mine[0], other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "name, count",
    [
        ("spiking_yolo", 16_169_273),
        ("double_threshold_tiny", 16_169_281),
        ("double_threshold_vgg16", 17_340_876),
        ("double_threshold_resnet20", 4_427_857),
    ],
)
def test_parameter_counts_are_the_documented_ones(name, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model(name).parameters()) == count
