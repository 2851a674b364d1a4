"""Slow reference of the published networks, independent of ours: tables by row, blocks by step, published names.

Written from the published tables and equations and sharing nothing with `models/` but the names of the parameters, so
that a network that is wired otherwise differs here although all its blocks agree.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Step(torch.autograd.Function):
    """A step function with a gradient of 1 where `inside`."""

    @staticmethod
    def forward(ctx, h, emitted, inside):
        ctx.save_for_backward(inside)
        return emitted

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0], None, None


def lif(x: Tensor) -> Tensor:
    """EMS-YOLO: H = 0.25 H (1 - S) + X, S = [H > 0.5]."""
    out, h, s = [], torch.zeros_like(x[0]), torch.zeros_like(x[0])
    for current in x:
        h = 0.25 * h * (1 - s.detach()) + current
        s = Step.apply(h, (h > 0.5).to(h), (h - 0.5).abs() < 0.5)
        out.append(s)
    return torch.stack(out)


def graded(x: Tensor) -> Tensor:
    """EMS-YOLO's SiLU "neuron", whose membrane the built networks overwrite with its output."""
    out, s = [], torch.zeros_like(x[0])
    for current in x:
        s = F.silu(0.25 * s * (1 - s.detach()) + current)
        out.append(s)
    return torch.stack(out)


def ilif(x: Tensor) -> Tensor:
    """SpikeYOLO: H = 0.25 (H - S) + X, S = round(clip(H, 0, 4))."""
    out, h, s = [], torch.zeros_like(x[0]), torch.zeros_like(x[0])
    for current in x:
        h = 0.25 * (h - s.detach()) + current
        s = Step.apply(h, h.clamp(0, 4).round(), (h >= 0) & (h <= 4))
        out.append(s)
    return torch.stack(out)


def ilif_gen1(x: Tensor) -> Tensor:
    """SpikeYOLO's Gen1 code: H = (V + X) / 2."""
    out, v = [], torch.zeros_like(x[0])
    for current in x:
        h = (v + current) / 2
        s = Step.apply(h, h.clamp(0, 4).round(), (h >= 0) & (h <= 4))
        v = h - s.detach()
        out.append(s)
    return torch.stack(out)


class Published:
    """Runs a table on a published state dict. `seen[name]` is what convolution `name` got, [T, B, C, H, W].

    BatchNorm writes its new statistics into `state` when `training`.
    """

    eps, momentum = 1e-5, 0.1

    def __init__(self, state: dict[str, Tensor], neuron, training: bool):
        self.state, self.neuron, self.training = state, neuron, training
        self.seen: dict[str, Tensor] = {}

    def has(self, name: str) -> bool:
        return name in self.state

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: int | None = None, groups: int = 1) -> Tensor:
        self.seen[name] = x
        w, b = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        padding = w.shape[-1] // 2 if padding is None else padding
        return torch.stack([F.conv2d(step, w, b, stride, padding, 1, groups) for step in x])

    def bn(self, name: str, x: Tensor) -> Tensor:
        """Statistics over T, B, H, W together."""
        s = self.state
        y = F.batch_norm(
            x.flatten(0, 1),
            s[f"{name}.running_mean"], s[f"{name}.running_var"], s[f"{name}.weight"], s[f"{name}.bias"],
            self.training, self.momentum, self.eps,
        )  # fmt: skip
        return y.unflatten(0, x.shape[:2])

    @staticmethod
    def up(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    def table(self, x: Tensor, rows: list[tuple]) -> list[Tensor]:
        """rows: (from, repeats, block, *arguments) -> the output of every row."""
        outputs: list[Tensor] = []
        for i, (source, repeats, block, *arguments) in enumerate(rows):
            if isinstance(source, tuple):
                x = torch.cat([outputs[s] for s in source], 2)
            elif source != -1:
                x = outputs[source]
            for k in range(repeats):
                name = f"model.{i}.{k}" if repeats > 1 else f"model.{i}"
                # Only the first of several blocks is strided.
                x = block(self, name, x, *(arguments if k == 0 else [1] * len(arguments)))
            outputs.append(x)
        return outputs


def concat(net, name, x):
    """The row's sources are together already."""
    return x


def upsample(net, name, x):
    return net.up(x)


# EMS-YOLO. Blocks take (network, name, x, stride); channels and kernels are those of the weights.


def pool(x: Tensor, s: int) -> Tensor:
    return x if s == 1 else torch.stack([F.max_pool2d(step, s, s) for step in x])


def stem(net, name, x, s=2):
    return net.bn(f"{name}.bn.bn", net.conv(f"{name}.conv", x, s))


def graded_conv(net, name, x, s=1):
    return net.graded(net.bn(f"{name}.bn.bn", net.conv(f"{name}.conv", x, s)))


def residual(net, name, x, s):
    r = f"{name}.residual_function"
    x = net.bn(f"{r}.2.bn", net.conv(f"{r}.1", net.neuron(x), s))
    return net.bn(f"{r}.5.bn", net.conv(f"{r}.4", net.neuron(x)))


def basic(net, name, x, s=1):
    """BasicBlock_2 and BasicBlock_1: pool - spike - 1 x 1 where the shape changes."""
    skip = x
    if net.has(f"{name}.shortcut.2.weight"):
        skip = net.bn(f"{name}.shortcut.3.bn", net.conv(f"{name}.shortcut.2", net.neuron(pool(x, s))))
    return residual(net, name, x, s) + skip


def basic_ms(net, name, x, s=1):
    """BasicBlock_ms: the shortcut's 1 x 1 sees the membrane."""
    skip = x
    if net.has(f"{name}.shortcut.1.weight"):
        skip = net.bn(f"{name}.shortcut.2.bn", net.conv(f"{name}.shortcut.1", pool(x, s)))
    return residual(net, name, x, s) + skip


def concatenating(net, name, x, s=1):
    """Concat_res2 and ConcatBlock_ms: projected channels, then x, pooled after the concatenation."""
    projected = net.bn(f"{name}.shortcut.2.bn", net.conv(f"{name}.shortcut.1", net.neuron(x)))
    return residual(net, name, x, s) + pool(torch.cat([projected, x], 2), s)


def sew(net, name, x, s=1):
    y = graded_conv(net, f"{name}.cv2", graded_conv(net, f"{name}.cv1", x, s))
    if net.has(f"{name}.shortcut.0.weight"):
        x = net.bn(f"{name}.shortcut.1.bn", net.conv(f"{name}.shortcut.0", x, s))
    return y + x


def _neck(p5, lateral, p4, rows):
    """The rows after the bridge. rows: those of the map at stride 16 and of the bridge."""
    c4, bridge = rows
    return [(-1, 1, p5), (bridge, 1, lateral), (-1, 1, upsample), ((-1, c4), 1, concat), (-1, 1, p4)]


def _eighteen(plain, wide):
    return [row for _ in range(4) for row in ((-1, 1, wide, 2), (-1, 1, plain))]


def _thirty_four(wide):
    rows = [(-1, 1, basic, 2), (-1, 2, basic)]
    for n in (3, 5, 2):
        rows += [(-1, 1, wide, 2), (-1, n, basic)]
    return rows


CAT = concatenating
EMS_TABLES = {
    "ems_resnet10": [(-1, 1, stem), (-1, 1, basic, 2), *[(-1, 1, CAT, 2)] * 3, (-1, 1, basic),
                     *_neck(basic, basic, basic, (3, 5))],
    "ems_resnet18": [(-1, 1, stem), *_eighteen(basic, basic), (-1, 1, basic),
                     *_neck(graded_conv, basic, graded_conv, (6, 9))],
    "ems_resnet34": [(-1, 1, stem), *_thirty_four(basic), (-1, 1, basic), *_neck(basic, basic, basic, (6, 9))],
    "ems_resnet34_cat": [(-1, 1, stem), *_thirty_four(CAT), (-1, 1, basic),
                         *_neck(graded_conv, basic, graded_conv, (6, 9))],
    "ems_resnet10_ee": [(-1, 1, stem), *[(-1, 1, CAT, 2)] * 4, (-1, 1, basic_ms),
                        *_neck(CAT, basic_ms, basic_ms, (3, 5))],
    "ems_resnet18_ee": [(-1, 1, stem), *_eighteen(basic_ms, CAT), (-1, 1, basic_ms),
                        *_neck(CAT, basic_ms, basic_ms, (6, 9))],
    "sew_resnet18": [(-1, 1, graded_conv, 2), *_eighteen(sew, sew), (-1, 1, sew), *_neck(sew, sew, sew, (6, 9))],
}  # fmt: skip


class EMS(Published):
    graded = staticmethod(graded)

    def raw(self, x: Tensor, name: str) -> list[Tensor]:
        """x [T, B, C, H, W] -> logits of P4 and P5, [B, A, H, W, 5 + K]."""
        rows = EMS_TABLES[name]
        outputs = self.table(x, rows)
        p5 = next(i for i in range(len(rows)) if rows[i][2] is upsample) - 2
        raw = []
        for level, row in enumerate((len(rows) - 1, p5)):
            y = self.conv(f"model.{len(rows)}.m.{level}", outputs[row]).mean(0)
            raw.append(y.unflatten(1, (3, -1)).permute(0, 1, 3, 4, 2))
        return raw


# SpikeYOLO. In training BNAndPad pads with the running statistics that its BatchNorm has just updated.


def bn_and_pad(net, name, x):
    y, s = net.bn(f"{name}.bn", x), net.state
    border = s[f"{name}.bn.bias"] - s[f"{name}.bn.running_mean"] * s[f"{name}.bn.weight"] / torch.sqrt(
        s[f"{name}.bn.running_var"] + net.eps
    )
    T, B, C, H, W = y.shape
    padded = border.detach().view(C, 1, 1).repeat(T, B, 1, H + 2, W + 2)
    padded[..., 1:-1, 1:-1] = y
    return padded


def downsampling(net, name, x, k, s, p, first=False):
    x = x if first else net.neuron(x)
    return net.bn(f"{name}.encode_bn", net.conv(f"{name}.encode_conv", x, s, p))


def sep_conv(net, name, x):
    x = net.bn(f"{name}.bn1", net.conv(f"{name}.pwconv1", net.neuron(x)))
    x = net.bn(f"{name}.bn2", net.conv(f"{name}.dwconv2", net.neuron(x), groups=x.shape[2]))
    x = bn_and_pad(net, f"{name}.pwconv3.body.0", net.neuron(x))
    x = net.conv(f"{name}.pwconv3.body.1.0", x)
    return net.bn(f"{name}.bn3", net.conv(f"{name}.pwconv3.body.1.1", x, padding=0, groups=x.shape[2]))


def rep_conv(net, name, x):
    x = bn_and_pad(net, f"{name}.body.1", net.conv(f"{name}.body.0", x))
    x = net.conv(f"{name}.body.2.0", x, padding=0, groups=x.shape[2])
    return net.bn(f"{name}.body.2.2", net.conv(f"{name}.body.2.1", x))


def standard_conv(net, name, x, s=1):
    return net.bn(f"{name}.bn", net.conv(f"{name}.conv", net.neuron(x), s))


def all_conv_block(net, name, x):
    x = sep_conv(net, f"{name}.Conv", x) + x
    return standard_conv(net, f"{name}.conv2", standard_conv(net, f"{name}.conv1", x)) + x


def conv_block(net, name, x):
    x = sep_conv(net, f"{name}.Conv", x) + x
    y = net.bn(f"{name}.bn1", rep_conv(net, f"{name}.conv1", net.neuron(x)))
    return net.bn(f"{name}.bn2", rep_conv(net, f"{name}.conv2", net.neuron(y))) + x


def sppf(net, name, x):
    maps = [standard_conv(net, f"{name}.cv1", x)]
    for _ in range(3):
        maps.append(torch.stack([F.max_pool2d(step, 5, 1, 2) for step in maps[-1]]))
    return standard_conv(net, f"{name}.cv2", torch.cat(maps, 2))


def keep(net, name, x):
    """Row 0, which repeats an image T times: it comes repeated."""
    return x


def _spikeyolo_table(stages: tuple[int, int, int, int]) -> list[tuple]:
    a, b, c, d = stages
    return [
        (-1, 1, keep),
        (-1, 1, downsampling, 7, 4, 2, True), (-1, a, all_conv_block),
        (-1, 1, downsampling, 3, 2, 1), (-1, b, all_conv_block),
        (-1, 1, downsampling, 3, 2, 1), (-1, c, conv_block),
        (-1, 1, downsampling, 3, 2, 1), (-1, d, conv_block),
        (-1, 1, sppf), (-1, 1, standard_conv),
        (-1, 1, upsample), (-1, 1, conv_block), ((-1, 6), 1, concat), (-1, 1, standard_conv),
        (-1, 1, upsample), (-1, 1, all_conv_block), ((-1, 4), 1, concat), (-1, 1, standard_conv),
        (-1, 1, all_conv_block),
        (-1, 1, standard_conv, 2), ((-1, 14), 1, concat), (-1, 1, conv_block),
        (-1, 1, standard_conv, 2), ((-1, 10), 1, concat), (-1, 1, conv_block),
    ]  # fmt: skip


SPIKEYOLO_TABLES = {
    "spikeyolo_n": _spikeyolo_table((1, 2, 3, 1)),
    "spikeyolo_s": _spikeyolo_table((1, 2, 3, 1)),
    "spikeyolo_m": _spikeyolo_table((2, 3, 4, 2)),
    "spikeyolo_l": _spikeyolo_table((2, 3, 4, 2)),
    "spikeyolo_gen1_n": _spikeyolo_table((1, 2, 3, 1)),
    "spikeyolo_gen1_s": _spikeyolo_table((1, 2, 3, 1)),
}


class SpikeYOLO(Published):
    eps, momentum = 1e-3, 0.03

    def raw(self, x: Tensor, name: str) -> list[Tensor]:
        """x [T, B, C, H, W] -> logits of P3, P4, P5, [B, 64 + K, H, W]."""
        outputs = self.table(x, SPIKEYOLO_TABLES[name])
        raw = []
        for level, row in enumerate((19, 22, 25)):
            parts = []
            for branch in ("cv2", "cv3"):
                head = f"model.26.{branch}.{level}"
                y = standard_conv(self, f"{head}.1", standard_conv(self, f"{head}.0", outputs[row]))
                parts.append(self.conv(f"{head}.2.conv", self.neuron(y)))
            raw.append(torch.cat(parts, 2).mean(0))
        return raw


# Spiking YOLOv3, of the published cfg: the index of each layer, and what it reads.


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def qcfs(x: Tensor) -> Tensor:
    """lam / L clip(floor(x L / lam + 1/2), 0, L) with lam = 4, L = 256, and its straight-through gradient."""
    step = 4.0 / 256
    level = torch.floor(x / step + 0.5)
    return Step.apply(x, level.clamp(0, 256) * step, (level >= 0) & (level < 256))


class SpikingYOLOv3(Published):
    eps, momentum = 1e-4, 0.03

    def layer(self, index: int, x: Tensor, stride: int = 1) -> Tensor:
        name = f"module_list.{index}"
        return self.neuron(self.bn(f"{name}.BatchNorm2d", self.conv(f"{name}.Conv2d", x, stride)))

    def raw(self, x: Tensor, name: str) -> list[Tensor]:
        """x [T, B, C, H, W] -> logits of P4 and P5, [B, A, H, W, 5 + K]."""
        for index in range(8):
            x = self.layer(index, x, stride=2 if index % 2 else 1)
        route = x = self.layer(8, x)
        for index, stride in ((9, 2), (10, 1), (11, 1), (12, 1)):
            x = self.layer(index, x, stride)
        p5 = self.layer(13, x)
        y = self.seen["module_list.18.ConvTranspose2d"] = self.layer(17, x)
        weight = self.state["module_list.18.ConvTranspose2d.weight"]
        # Zeros between the pixels, and one after the last; then a convolution with the kernel turned by 180 degrees.
        T, B, C, H, W = y.shape
        wide = y.new_zeros(T, B, C, 2 * H, 2 * W)
        wide[..., ::2, ::2] = y
        turned = weight.flip(2, 3).transpose(0, 1)
        up = torch.stack([F.conv2d(step, turned, None, 1, 1) for step in wide])
        up = self.neuron(self.bn("module_list.18.BatchNorm2d", up))
        p4 = self.layer(20, torch.cat([up, route], 2))
        logits = [self.conv("module_list.21.Conv2d", p4), self.conv("module_list.14.Conv2d", p5)]
        return [y.mean(0).unflatten(1, (3, -1)).permute(0, 1, 3, 4, 2) for y in logits]
