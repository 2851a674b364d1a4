"""Convolutions on cells of 2 x 2 pixels equal those on pixels."""

import pytest
import torch

from models.samplers.cells import CellConv, apply, stack, to_cells, to_pixels


@pytest.mark.parametrize("size", [(6, 8), (5, 8), (6, 7), (1, 1)])
def test_cells_hold_the_pixels(size):
    x = torch.arange(2 * 3 * size[0] * size[1]).view(2, 3, *size).float()
    cells = to_cells(x)
    even = not (size[0] % 2 or size[1] % 2)
    assert cells.shape[-1] == (12 if even else 3)
    assert torch.equal(to_pixels(cells, 3), x)
    if even:
        assert cells[1, 2, 3, 4 * 2 + 2 * 1 + 0] == x[1, 2, 5, 6]


@pytest.mark.parametrize("k", [1, 3, 5, 7, 9])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_stack_of_convolutions_is_the_same_on_cells(k, depth):
    torch.manual_seed(k)
    layers = stack(2, 4, k, depth).double()
    x = torch.randn(2, 2, 8, 10, dtype=torch.float64, requires_grad=True)
    on_cells, on_pixels = to_pixels(apply(layers, to_cells(x)), 4), layers(x)
    torch.testing.assert_close(on_cells, on_pixels, rtol=0, atol=1e-12)
    weights = [x, *layers.parameters()]
    cotangent = torch.randn_like(on_pixels)
    found, expected = (torch.autograd.grad((y * cotangent).sum(), weights) for y in (on_cells, on_pixels))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_cells_are_channels_last_without_a_copy():
    conv = CellConv(2, 4, 5)
    cells = to_cells(torch.randn(2, 2, 8, 8))
    y = conv(cells.movedim(-1, 1))
    assert cells.is_contiguous() and y.is_contiguous(memory_format=torch.channels_last)
