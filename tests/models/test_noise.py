"""Salt-and-pepper noise around an encoder: where, how much, when, and the same whatever T and the batch."""

import pytest
import torch
from test_detectors import build
from torch import nn

from models import Detector, DirectEncoder
from models.encoders import BernoulliEncoder, LatencyEncoder
from models.noise import SaltAndPepper

IMAGE = 0.25 + 0.5 * torch.rand(2, 3, 40, 50)


def test_pixels_of_an_image_become_0_or_1_in_two_of_five_steps():
    encoder = SaltAndPepper(DirectEncoder(11), 0.3)
    x = encoder(IMAGE)
    assert x.shape == (11, 2, 3, 40, 50) and not encoder.constant(IMAGE)
    noisy = (x != IMAGE).any(2)  # [T, B, H, W]
    assert noisy.any((1, 2, 3)).tolist() == [t % 5 < 2 for t in range(11)]
    assert (x[:, :, 0] != IMAGE[:, 0])[noisy].all() and set(x[(x != IMAGE)].tolist()) == {0.0, 1.0}
    changed = noisy[0]
    assert abs(changed.float().mean() - 0.3) < 0.05
    assert abs((x[0, :, 0] == 1)[changed].float().mean() - 0.5) < 0.1
    assert (x[0].std(1)[changed] == 0).all()  # all channels of a pixel alike
    assert not torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[5])


@pytest.mark.parametrize("inner", [DirectEncoder, BernoulliEncoder, LatencyEncoder])
def test_depends_neither_on_T_nor_on_the_batch(inner):
    long, short = SaltAndPepper(inner(8), 0.2, seed=4), SaltAndPepper(inner(8), 0.2, seed=4)
    x = long(IMAGE)
    assert torch.equal(x, short(IMAGE)) and not torch.equal(x, SaltAndPepper(inner(8), 0.2, seed=5)(IMAGE))
    for i in range(2):
        assert torch.equal(long(IMAGE[i : i + 1])[:, 0], x[:, i])
    for t in range(8):
        assert torch.equal(long.step(IMAGE, t), x[t : t + 1])
    if inner is not LatencyEncoder:  # whose times are shares of T
        short.T = 3
        assert short.encoder.T == 3 and torch.equal(short(IMAGE), x[:3])


def test_frames_of_events_become_0_or_their_largest_value():
    events = torch.randint(0, 4, (5, 2, 2, 40, 50)).float()
    events[:, 1, 0, 0, 0] = 9.0
    encoder = SaltAndPepper(DirectEncoder(5), 0.2, noisy_steps=1)
    x = encoder(events)
    assert torch.equal(x[1:], events[1:]) and not torch.equal(x[0], events[0])
    changed = (x[0] != events[0]).any(1)
    assert set(x[0, 0][:, changed[0]].unique().tolist()) == {0.0, 3.0}
    assert set(x[0, 1][:, changed[1]].unique().tolist()) == {0.0, 9.0}
    for t in range(5):
        assert torch.equal(encoder.step(events, t), x[t : t + 1])
    with pytest.raises(ValueError, match="the events have T=5"):
        encoder.step(events, 5)


def test_no_noise_is_the_encoder_itself_and_all_steps_can_have_it():
    for still in (SaltAndPepper(DirectEncoder(4), 0.0), SaltAndPepper(DirectEncoder(4), 0.5, noisy_steps=0)):
        assert torch.equal(still(IMAGE), DirectEncoder(4)(IMAGE)) and still.constant(IMAGE)
    assert (SaltAndPepper(DirectEncoder(4), 0.5, 3, 3)(IMAGE) != IMAGE).any(-1).any(-1).all()
    assert set(SaltAndPepper(DirectEncoder(1), 1.0)(IMAGE).unique().tolist()) == {0.0, 1.0}


def test_in_a_detector_around_any_encoder():
    class Repeat(nn.Module):
        def __init__(self, T):
            super().__init__()
            self.T = T

        def forward(self, x):
            return x.repeat(self.T, 1, 1, 1, 1)

    parts = build("ems_resnet10_ee")
    model = Detector(parts.network, parts.head, SaltAndPepper(Repeat(2), 0.3)).eval()
    expected = SaltAndPepper(DirectEncoder(2), 0.3)(torch.full((1, 3, 64, 64), 0.5))
    image = torch.full((1, 3, 64, 64), 0.5)
    assert torch.equal(model.encode(image), expected) and torch.equal(model.encode_step(image, 1), expected[1:])
    assert not model.constant_input(image)
    model.encoder.check((9,))  # an encoder that does not check accepts all
    with pytest.raises(ValueError, match="expected images"):
        SaltAndPepper(DirectEncoder(2), 0.3).check((9,))
    assert SaltAndPepper(BernoulliEncoder(2, gain=0.5), 0.3).input_scale == 2.0


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"density": 30}, "density = 30: give a share of the pixels, 0 to 1"),
        ({"density": 0.3, "noisy_steps": 6}, "noisy_steps = 6: give 0 to period = 5"),
        ({"density": 0.3, "noisy_steps": 0, "period": 0}, "a period of at least 1"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        SaltAndPepper(DirectEncoder(4), **arguments)
