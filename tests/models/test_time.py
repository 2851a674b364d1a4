"""Stateless layers over T and B: all images in one call, and one image alone where all steps are the same."""

import pytest
import torch
from test_detectors import build
from torch import nn

from models import list_models
from models.layers.time import over_time, repeat_over_time


def counting(layer):
    """The number of images that each call of the layer gets."""
    seen = []
    layer.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    return seen


def test_repeated_steps_run_once_where_no_gradient_is_recorded():
    conv, bn, image = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval(), torch.rand(2, 3, 8, 8)
    conv.eval()
    seen, x = counting(conv), repeat_over_time(image, 5)
    expected = over_time(conv, x)
    with torch.no_grad():
        found = over_time(conv, x)
        over_time(conv, x.contiguous())
        y = over_time(bn, found)
    assert seen == [10, 2, 10]
    assert torch.equal(found, expected) and found.shape == (5, 2, 4, 6, 6)
    assert y.stride(0) == 0 and torch.equal(y, over_time(bn, expected))


def test_batchnorm_statistics_are_those_of_all_steps():
    a, b, image = nn.BatchNorm2d(3), nn.BatchNorm2d(3), torch.rand(2, 3, 4, 4)
    with torch.no_grad():
        over_time(a, repeat_over_time(image, 5))
        b(image.repeat(5, 1, 1, 1))
    assert all(torch.equal(p, q) for p, q in zip(a.buffers(), b.buffers(), strict=True))


@pytest.mark.parametrize("name", list_models())
def test_logits_of_an_image_equal_those_of_its_copies(name):
    model = build(name, T=3).eval()
    x = repeat_over_time(torch.rand(2, 3, 64, 96), 3)
    with torch.no_grad():
        for a, b in zip(model.logits(x), model.logits(x.contiguous()), strict=True):
            assert torch.equal(a, b)
