"""A small DFL head, and random logits and targets for it."""

import torch

from models.heads import build_head
from models.heads.dfl import BINS
from neurons import neuron_factory

STRIDES, SIZE = (8, 16), (64, 64)


def head(num_classes=3, channels=(8, 16), strides=STRIDES, **kwargs):
    return build_head({"name": "dfl", **kwargs}, channels, strides, num_classes, neuron_factory("ilif"))


def target(boxes=(), labels=()):
    return {
        "boxes": torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.as_tensor(labels, dtype=torch.int64).reshape(-1),
    }


def random_raw(seed, B=2, K=3, size=64, spread=3.0):
    g = torch.Generator().manual_seed(seed)
    shapes = [(B, 4 * BINS + K, size // s, size // s) for s in STRIDES]
    return [(torch.randn(shape, generator=g) * spread).requires_grad_() for shape in shapes]


def random_target(seed, n, K=3, low=4.0, high=60.0, within=64.0):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=g) * within * 0.7
    size = low + torch.rand(n, 2, generator=g) * (high - low)
    return target(torch.cat([corner, corner + size], 1), torch.randint(K, (n,), generator=g))
