"""A small YOLOX head, and logits for it whose boxes lie around those of targets, as those of a trained head do."""

from unittest import mock

import torch

from models.heads import build_head, simota
from neurons import neuron_factory

STRIDES, SIZE = (8, 16), (64, 64)
FORMS = {"centre": {}, "box_or_centre": {"assignment": "box_or_centre", "l1_epochs": 0}}


def head(num_classes=3, channels=(8, 16), strides=STRIDES, **kwargs):
    return build_head({"name": "yolox", **kwargs}, channels, strides, num_classes, neuron_factory("plif"))


def logits_near(targets, K=3, seed=0, noise=0.3, size=64, dtype=torch.float64):
    """Each cell predicts a box of its image, chosen at random, with `noise` on its logits; any box where there is none.

    In float64, in which no two costs are equal by rounding.
    """
    g = torch.Generator().manual_seed(seed)
    levels = []
    for s in STRIDES:
        n = size // s
        level = torch.randn(len(targets), 4 + 1 + K, n, n, generator=g, dtype=dtype)
        row, column = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
        for b, t in enumerate(targets):
            if len(t["boxes"]):
                box = t["boxes"][torch.randint(len(t["boxes"]), (n, n), generator=g)].to(dtype).permute(2, 0, 1) / s
                wh = (box[2:] - box[:2]).clamp(min=0.01)
                level[b, :4] *= noise
                level[b, :4] += torch.cat([(box[:2] + box[2:]) / 2 - torch.stack([column, row]), wh.log()])
        levels.append(level.requires_grad_())
    return levels


def assigned(h, logits, targets):
    """[B, M]: the box of each cell, -1 where it has none."""
    found = []
    with mock.patch("models.heads.yolox.assign", lambda *args: found.append(simota.assign(*args)) or found[0]):
        h.loss(logits, targets, SIZE)
    foreground, slot, cell, box, _ = found[0]
    boxes = torch.full_like(foreground, -1, dtype=torch.int64)
    for b, s in slot.nonzero().tolist():
        assert boxes[b, cell[b, s]] == -1  # one slot for each cell
        boxes[b, cell[b, s]] = box[b, s]
    assert torch.equal(boxes >= 0, foreground)
    return boxes
