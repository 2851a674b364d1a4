"""Complete IoU by hand and against torchvision's."""

import math

import torch
from torchvision.ops import complete_box_iou_loss

from models.heads.boxes import complete_iou


def test_complete_iou_of_boxes_worked_out_by_hand():
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 20, 10]])
    b = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [5, 0, 15, 10], [5, -5, 15, 15]])
    # 1; no overlap, 20 apart in a hull of 30 x 10; a third, 5 apart in 15 x 10; a third, aspects 2 and 1/2.
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(0.5)) ** 2
    expected = [1, -400 / 1000, 1 / 3 - 25 / 325, 1 / 3 - v * v / (1 - 1 / 3 + v)]
    torch.testing.assert_close(complete_iou(a, b), torch.tensor(expected))
    assert complete_iou(a[:, None], b).shape == (4, 4)


def test_complete_iou_has_the_gradient_of_torchvision():
    torch.manual_seed(0)
    corners = torch.rand(2, 100, 2) * 45
    a, b = torch.cat([corners, corners + 4 + torch.rand(2, 100, 2) * 56], -1).requires_grad_()
    ours, theirs = 1 - complete_iou(a, b), complete_box_iou_loss(a, b)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*(torch.autograd.grad(loss.sum(), a)[0] for loss in (ours, theirs)))
