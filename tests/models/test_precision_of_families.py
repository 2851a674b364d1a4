"""Every family in bfloat16 and float16: forward, losses, backward and detections."""

import pytest
import torch
from family_members import MEMBERS, member, targets


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", MEMBERS.values(), ids=MEMBERS.keys())
def test_trains_and_detects(name, dtype):
    model, x = member(name), torch.rand(2, 3, 64, 64)
    with torch.autocast("cpu", dtype):
        losses = model(x, targets())
    sum(losses.values()).backward()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    for p in model.parameters():
        assert not p.requires_grad or (p.grad.dtype == torch.float32 and p.grad.isfinite().all())
    with torch.no_grad(), torch.autocast("cpu", dtype):
        assert all(image["scores"].isfinite().all() and image["boxes"].isfinite().all() for image in model.eval()(x))


@pytest.mark.parametrize("name", MEMBERS.values(), ids=MEMBERS.keys())
def test_the_losses_of_the_twin_are_those_of_float32(name):
    """Of the twin, whose activations change little where their inputs do, with a head that assigns boxes by their
    shapes: a spike that rounding adds or drops changes all that follow."""
    x = torch.rand(2, 3, 64, 64, generator=torch.manual_seed(1))
    twin = {"neuron": "silu", "head": "anchor"}
    expected = sum(member(name, **twin)(x, targets()).values())
    for dtype, tolerance in ((torch.bfloat16, 0.02), (torch.float16, 0.005)):
        with torch.autocast("cpu", dtype):
            losses = member(name, **twin)(x, targets())
        torch.testing.assert_close(sum(losses.values()), expected, rtol=tolerance, atol=0)
