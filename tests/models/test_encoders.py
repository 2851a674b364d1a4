"""Encoders: inputs of the direct encoder, and detectors with other encoders."""

import pytest
import torch
from test_detectors import build, targets
from torch import nn

from models import Detector, DirectEncoder, create_model, load_published_weights


def test_images_are_repeated_and_event_frames_taken_as_they_are():
    image, events = torch.rand(2, 3, 4, 5), torch.rand(3, 2, 2, 4, 5)
    encoder = DirectEncoder(3)
    x = encoder(image)
    assert x.shape == (3, 2, 3, 4, 5) and all(torch.equal(step, image) for step in x)
    assert x.data_ptr() == image.data_ptr()  # a view, whatever T
    assert encoder(events) is events
    assert not encoder.state_dict()


@pytest.mark.parametrize(
    "shape, words",
    [
        ((4, 2, 2, 8, 8), "T=3 steps, but the events have T=4"),
        ((2, 3, 4, 2, 8, 8), "only an encoder with a learned sampler takes them"),
        ((3, 8, 8), "expected images"),
    ],
)
def test_a_batch_of_another_form_is_named(shape, words):
    with pytest.raises(ValueError, match=words):
        DirectEncoder(3)(torch.zeros(shape))


def test_one_step_of_an_image_is_a_view_for_any_t():
    image, encoder = torch.rand(2, 3, 4, 5), DirectEncoder(3)
    assert encoder.constant(image)
    for t in (0, 2, 3, 2000):
        step = encoder.step(image, t)
        assert step.shape == (1, 2, 3, 4, 5) and torch.equal(step[0], image) and step.data_ptr() == image.data_ptr()


def test_one_step_of_event_frames_is_that_frame():
    events, encoder = torch.rand(3, 2, 2, 4, 5), DirectEncoder(3)
    assert not encoder.constant(events)
    for t in range(3):
        assert torch.equal(encoder.step(events, t), events[t : t + 1])
    with pytest.raises(ValueError, match="t = 3: the events have T=3 frames, so t must be below 3"):
        encoder.step(events, 3)
    with pytest.raises(ValueError, match="only an encoder with a learned sampler takes them"):
        encoder.step(torch.zeros(2, 3, 4, 2, 8, 8), 0)


class Ramp(DirectEncoder):
    """Grows brighter: overrides `forward` alone."""

    def forward(self, x):
        return super().forward(x) * torch.arange(self.T).view(-1, 1, 1, 1, 1)


def test_an_encoder_with_forward_alone_has_steps():
    image, parts = torch.rand(2, 3, 64, 64), build("ems_resnet10_ee")
    model = Detector(parts.network, parts.head, Ramp(3))
    assert not model.constant_input(image)
    for t in range(5):  # its code begins again after T steps
        assert torch.equal(model.encode_step(image, t), model.encode(image)[t % 3 : t % 3 + 1])
    bins = torch.rand(2, 2, 3, 2, 8, 8)
    model = Detector(parts.network, parts.head, Sampler(T=2, bins=3))
    assert torch.equal(model.encode_step(bins, 1), model.encode(bins)[1:]) and not model.constant_input(bins)
    assert Detector(parts.network, parts.head, DirectEncoder(3)).constant_input(image)


def test_T_is_that_of_the_encoder():
    model = create_model("ems_resnet10_ee", num_classes=2, T=2, width=0.125).eval()
    image = torch.rand(1, 3, 32, 32)
    assert model.T == model.encoder.T == 2 and model.encode(image).shape[0] == 2
    model.T = 3
    assert model.encoder.T == 3 and model.encode(image).shape[0] == 3
    with torch.no_grad():
        for a, b in zip(model.raw(image), model.logits(image.expand(3, -1, -1, -1, -1)), strict=True):
            assert torch.equal(a, b)


class Sampler(nn.Module):
    """Micro-bins [B, Tl, Tm, 2, H, W] -> the learned mean over Tm, [Tl, B, 2, H, W]."""

    def __init__(self, T, bins):
        super().__init__()
        self.T, self.weight = T, nn.Parameter(torch.ones(bins))

    def forward(self, x):
        return torch.einsum("btmchw,m->tbchw", x, self.weight)


def test_a_learned_sampler_trains_with_the_network_and_is_part_of_its_state():
    parts = build("ems_resnet10_ee", in_channels=2)
    model = Detector(parts.network, parts.head, Sampler(T=2, bins=3)).train()
    sum(model(torch.rand(2, 2, 3, 2, 64, 64) * 4, targets()).values()).backward()
    assert model.encoder.weight.grad.abs().sum() > 0 and "encoder.weight" in model.state_dict()
    with pytest.raises(ValueError, match="Sampler, the encoder of this model, has no `published_names`"):
        load_published_weights(model, {})


def test_a_network_without_published_names_works_but_there():
    parts = build("ems_resnet10_ee")

    class Bare(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.inner, self.channels, self.strides = network, network.channels, network.strides

        def forward(self, x):
            return self.inner(x)

    model = Detector(Bare(parts.network), parts.head, DirectEncoder(2)).train()
    sum(model(torch.rand(2, 3, 64, 64), targets()).values()).backward()
    with torch.no_grad():
        assert len(model.eval()(torch.rand(2, 3, 64, 64))) == 2
    with pytest.raises(ValueError, match="Bare, the network of this model, has no `published_names`"):
        load_published_weights(model, {})
