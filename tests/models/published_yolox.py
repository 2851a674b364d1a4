"""Slow reference of the published YOLOX networks of EAS-SNN and SpikingYOLOX, on state dicts of published names.

Written from the published tables and equations, sharing nothing with `models/`. `published_networks.py` has the base:
blocks by step, and `seen[name]`, what convolution `name` got. Sizes, depths and kinds of block are the weights' own.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from published_networks import Published, Step
from published_sampler import arsnn, count, rsnn, snn
from torch import Tensor

SAMPLERS = {"arsnn": arsnn, "rsnn": rsnn, "snn": snn, "count": count}


def atan(h: Tensor, alpha: float = 2.0) -> Tensor:
    """[h >= 1] with the derivative alpha / 2 / (1 + (pi alpha x / 2)^2), x = h - 1."""
    x = h.detach() - 1
    return Step.apply(h, (x >= 0).to(h), alpha / 2 / (1 + (math.pi * alpha * x / 2) ** 2))


def sigmoid(h: Tensor, alpha: float) -> Tensor:
    """[h >= 1] with the derivative of sigmoid(alpha (h - 1))."""
    x = h.detach() - 1
    p = torch.sigmoid(alpha * x)
    return Step.apply(h, (x >= 0).to(h), alpha * p * (1 - p))


def plif(x: Tensor, w: Tensor, fire) -> Tensor:
    """H = V (1 - sigmoid(w)) + X, S = [H >= 1], V = H - S."""
    out, v = [], torch.zeros_like(x[0])
    for current in x:
        h = v * (1 - torch.sigmoid(w)) + current
        s = fire(h)
        v = h - s
        out.append(s)
    return torch.stack(out)


def if_hard(x: Tensor) -> Tensor:
    """The released SignedIF, which never emits -1: H = V + X, S = [H >= 1], V = H (1 - S)."""
    out, v = [], torch.zeros_like(x[0])
    for current in x:
        h = v + current
        s = sigmoid(h, 4.0)
        v = h * (1 - s)
        out.append(s)
    return torch.stack(out)


def lif_hard(x: Tensor) -> Tensor:
    """The LIF node of the backup backbone: H = V + (X - V) / 2, S = [H >= 1], V = H (1 - S)."""
    out, v = [], torch.zeros_like(x[0])
    for current in x:
        h = v + (current - v) / 2
        s = atan(h)
        v = h * (1 - s)
        out.append(s)
    return torch.stack(out)


class YOLOX(Published):
    """What both papers share: Focus or 6 x 6 stem, CSPDarknet, PAFPN, decoupled head."""

    def act(self, name: str, x: Tensor) -> Tensor:
        raise NotImplementedError

    def read_out(self, part: str, maps: list[Tensor]) -> list[Tensor]:
        """What `part` ("neck" or "head") gets."""
        return maps

    def bn(self, name: str, x: Tensor) -> Tensor:
        fourier = any(word in name for word in (".ffc1", ".ffc2", ".norm"))
        self.eps, self.momentum = (1e-5, 0.1) if fourier else (1e-3, 0.03)
        return super().bn(name, x)

    def unit(self, name: str, x: Tensor, s: int = 1) -> Tensor:
        """Convolution, BatchNorm, activation; depthwise and pointwise where the weights are."""
        if self.has(f"{name}.dconv.conv.weight"):
            return self.unit(f"{name}.pconv", self.unit(f"{name}.dconv", x, s))
        conv = f"{name}.conv.0" if self.has(f"{name}.conv.0.weight") else f"{name}.conv"
        w = self.state[f"{conv}.weight"]
        groups = x.shape[2] if w.shape[1] == 1 and x.shape[2] > 1 else 1
        y = self.conv(conv, x, s, (w.shape[-1] - 1) // 2, groups)
        return self.act(name, self.bn(f"{name}.bn", y))

    def indices(self, name: str) -> list[str]:
        """The blocks name.0, name.1, ..."""
        n = 0
        while any(key.startswith(f"{name}.{n}.") for key in self.state):
            n += 1
        return [f"{name}.{i}" for i in range(n)]

    def block(self, name: str, x: Tensor, shortcut: bool) -> Tensor:
        if self.has(f"{name}.ffc1.ffc.convl2l.weight"):
            return fourier_block(self, name, x)
        y = self.unit(f"{name}.conv2", self.unit(f"{name}.conv1", x))
        return x + y if shortcut else y

    def csp(self, name: str, x: Tensor, shortcut: bool) -> Tensor:
        y = self.unit(f"{name}.conv1", x)
        for block in self.indices(f"{name}.m"):
            y = self.block(block, y, shortcut)
        self.seen[f"{name}.m"] = y
        return self.unit(f"{name}.conv3", torch.cat([y, self.unit(f"{name}.conv2", x)], 2))

    def spp(self, name: str, x: Tensor) -> Tensor:
        x = self.unit(f"{name}.conv1", x)
        pools = [torch.stack([F.max_pool2d(step, k, 1, k // 2) for step in x]) for k in (5, 9, 13)]
        return self.unit(f"{name}.conv2", torch.cat([x, *pools], 2))

    def stem(self, name: str, x: Tensor) -> Tensor:
        if self.has(f"{name}.conv.0.weight"):  # 6 x 6
            return self.unit(name, x, 2)
        rows, columns = x.unflatten(-2, (-1, 2)).unbind(-2), range(2)
        top_left, bottom_left, top_right, bottom_right = (
            rows[r].unflatten(-1, (-1, 2))[..., c] for c in columns for r in columns
        )
        x = torch.cat([top_left, bottom_left, top_right, bottom_right], 2)
        return self.unit(f"{name}.0.conv" if self.has(f"{name}.0.conv.conv.weight") else f"{name}.conv", x)

    def backbone(self, x: Tensor, prefix: str = "backbone.backbone.") -> list[Tensor]:
        """[T, B, C, H, W] -> outputs of stem, dark2 ... dark5."""
        maps = [self.stem(f"{prefix}stem", x)]
        for stage in ("dark2", "dark3", "dark4"):
            y = self.unit(f"{prefix}{stage}.0", maps[-1], 2)
            maps.append(self.csp(f"{prefix}{stage}.1", y, True))
        y = self.seen[f"{prefix}dark5.1"] = self.unit(f"{prefix}dark5.0", maps[-1], 2)
        y = self.seen[f"{prefix}dark5.2"] = self.spp(f"{prefix}dark5.1", y)
        return [*maps, self.csp(f"{prefix}dark5.2", y, False)]

    def neck(self, c3: Tensor, c4: Tensor, c5: Tensor) -> list[Tensor]:
        def joined(name, x, other):
            return self.csp(f"backbone.{name}", torch.cat([x, other], 2), False)

        lateral = self.unit("backbone.lateral_conv0", c5)
        reduced = self.unit("backbone.reduce_conv1", joined("C3_p4", self.up(lateral), c4))
        p3 = joined("C3_p3", self.up(reduced), c3)
        p4 = joined("C3_n3", self.unit("backbone.bu_conv2", p3, 2), reduced)
        return [p3, p4, joined("C3_n4", self.unit("backbone.bu_conv1", p4, 2), lateral)]

    def head(self, maps: list[Tensor]) -> list[Tensor]:
        """-> logits [B, 4 + 1 + K, H, W], mean over T."""
        logits = []
        for level, x in enumerate(maps):
            x = self.unit(f"head.stems.{level}", x)
            classes = boxes = x
            for i in range(2):
                classes = self.unit(f"head.cls_convs.{level}.{i}", classes)
                boxes = self.unit(f"head.reg_convs.{level}.{i}", boxes)
            parts = []
            for kind, y in (("reg", boxes), ("obj", boxes), ("cls", classes)):
                name = f"head.{kind}_preds.{level}"
                parts.append(self.conv(f"{name}.0" if self.has(f"{name}.0.weight") else name, y))
            logits.append(torch.cat(parts, 2).mean(0))
        return logits

    def raw(self, x: Tensor) -> list[Tensor]:
        """x [T, B, C, H, W] -> logits of P3, P4, P5."""
        self.stages = self.backbone(x)
        self.fused = self.neck(*self.read_out("neck", self.stages[-3:]))
        return self.head(self.read_out("head", self.fused))


class EASSNN(YOLOX):
    """EAS-SNN, and the static port, which has its network. Spiking is what has a time constant.

    The mean over T is taken before the first part that does not spike.
    """

    def __init__(self, state, training, fire=atan):
        super().__init__(state, None, training)
        self.fire = fire

    def act(self, name, x):
        return plif(x, self.state[f"{name}.act.w"], self.fire) if self.has(f"{name}.act.w") else F.silu(x)

    def read_out(self, part, maps):
        first = {"neck": "backbone.lateral_conv0", "head": "head.stems.0"}[part]
        return maps if self.has(f"{first}.act.w") else [x.mean(0, keepdim=True) for x in maps]

    def sample(self, x: Tensor, T: int, name: str = "arsnn", **options) -> Tensor:
        """Micro-bins [B, 1, Tm, C, H, W] -> [T, B, C, H, W]. One frame is shown T times; the ANN gets the first."""
        state = {k.removeprefix("embedding."): v for k, v in self.state.items() if k.startswith("embedding.")}
        # Of count there are no weights, and no options.
        frames = count(state, x.flatten(0, 1)) if name == "count" else SAMPLERS[name](state, x.flatten(0, 1), **options)
        self.seen["embedding"] = frames
        if not any(key.endswith("act.w") for key in self.state):
            return frames[:1]
        return torch.cat([frames] * T) if len(frames) == 1 else frames


class SpikingYOLOX(YOLOX):
    """SpikingYOLOX as released: three spiking layers, in dark5, and no mean over T, which is 1."""

    def __init__(self, state, training):
        super().__init__(state, None, training)

    def act(self, name, x):
        return if_hard(x) if name.startswith("backbone.backbone.dark5.2.conv") else F.silu(x)


class BackupBackbone(YOLOX):
    """The second backbone of that repository: LIF everywhere, Fourier blocks from dark3, and a bottleneck of its own in
    dark2: after each of its two units another normalisation and LIF, of which the second has no parameters."""

    def __init__(self, state, training):
        super().__init__(state, None, training)

    def act(self, name, x):
        return lif_hard(x)

    def block(self, name, x, shortcut):
        if not self.has(f"{name}.norm1.weight"):
            return super().block(name, x, shortcut)
        y = lif_hard(self.bn(f"{name}.norm1", self.unit(f"{name}.conv1", x)))
        y = self.unit(f"{name}.conv2", y)
        y = torch.stack([(s - s.mean((2, 3), keepdim=True)) * (s.var((2, 3), keepdim=True, correction=0) + 1e-5).rsqrt()
                         for s in y])  # fmt: skip
        return x + lif_hard(y)


# Fourier convolution (Chi et al., 2020) by the matrices of the transform.


def angles(n: int, frequencies: int, like: Tensor) -> Tensor:
    """2 pi k j / n, [frequencies, n]."""
    k, j = (torch.arange(m, dtype=like.dtype) for m in (frequencies, n))
    return 2 * math.pi * k[:, None] * j / n


def transform(x: Tensor) -> tuple[Tensor, Tensor]:
    """Real x [..., H, W] -> real and imaginary part [..., H, W // 2 + 1], orthonormal."""
    H, W = x.shape[-2:]
    rows, columns = angles(H, H, x), angles(W, W // 2 + 1, x)
    real, imaginary = x @ columns.cos().T, -x @ columns.sin().T
    c, s, norm = rows.cos(), rows.sin(), math.sqrt(H * W)
    return (c @ real + s @ imaginary) / norm, (c @ imaginary - s @ real) / norm


def inverse(real: Tensor, imaginary: Tensor, W: int) -> Tensor:
    """Half spectrum -> real x [..., H, W]: a column stands for two, except the first and, for an even W, the last."""
    H, half = real.shape[-2:]
    rows, columns = angles(H, H, real), angles(W, half, real)
    c, s = rows.cos().T, rows.sin().T
    real, imaginary = c @ real - s @ imaginary, c @ imaginary + s @ real
    twice = torch.full((half, 1), 2.0, dtype=real.dtype)
    twice[0] = 1
    if W % 2 == 0:
        twice[-1] = 1
    return (real @ (twice * columns.cos()) - imaginary @ (twice * columns.sin())) / math.sqrt(H * W)


def fourier_unit(net: Published, name: str, x: Tensor) -> Tensor:
    T, B, C, H, W = x.shape
    spectrum = torch.stack(transform(x), 3).flatten(2, 3)  # c0 real, c0 imaginary, c1 real, ...
    y = net.bn(f"{name}.bn", net.conv(f"{name}.conv_layer", spectrum)).relu().unflatten(2, (C, 2))
    return inverse(y[:, :, :, 0], y[:, :, :, 1], W)


def spectral(net: Published, name: str, x: Tensor) -> Tensor:
    x = net.bn(f"{name}.conv1.1", net.conv(f"{name}.conv1.0", x)).relu()
    return net.conv(f"{name}.conv2", x + fourier_unit(net, f"{name}.fu", x))


def reflected(net: Published, name: str, x: Tensor) -> Tensor:
    """3 x 3 on an image continued by its mirror image."""
    net.seen[name] = x
    x = torch.cat([x[..., 1:2, :], x, x[..., -2:-1, :]], -2)
    x = torch.cat([x[..., 1:2], x, x[..., -2:-1]], -1)
    return torch.stack([F.conv2d(step, net.state[f"{name}.weight"]) for step in x])


def fourier_block(net: Published, name: str, x: Tensor) -> Tensor:
    """Two Fourier convolutions with BatchNorm and ELU, and a shortcut; 3 of 4 channels, the last ones, are global."""
    wide = int(0.75 * x.shape[2])
    local, far = x.split([x.shape[2] - wide, wide], 2)
    for part in (f"{name}.ffc1", f"{name}.ffc2"):
        f = f"{part}.ffc"
        local, far = (
            reflected(net, f"{f}.convl2l", local) + reflected(net, f"{f}.convg2l", far),
            reflected(net, f"{f}.convl2g", local) + spectral(net, f"{f}.convg2g", far),
        )
        local, far = F.elu(net.bn(f"{part}.bn_l", local)), F.elu(net.bn(f"{part}.bn_g", far))
    return x + torch.cat([local, far], 2)
