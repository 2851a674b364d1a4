"""Encoders: inputs of the direct encoder, and detectors with other encoders."""

import pytest
import torch
from test_detectors import build, targets
from torch import nn
from torchvision.transforms import Normalize

from models import Detector, DirectEncoder, create_model, load_published_weights
from models.deploy import calibrate, convert
from models.encoders import BernoulliEncoder, LatencyEncoder, PixelEncoder


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


CODES = {
    "bernoulli": lambda T: BernoulliEncoder(T, gain=0.8, seed=3),
    "round": lambda T: LatencyEncoder(T),
    "floor": lambda T: LatencyEncoder(T, "floor"),
}


@pytest.mark.parametrize("code", CODES)
def test_codes_of_images(code):
    image, events = torch.rand(2, 3, 4, 5), torch.rand(6, 2, 2, 4, 5)
    encoder = CODES[code](6)
    x = encoder(image)
    assert x.shape == (6, 2, 3, 4, 5) and x.dtype == image.dtype and set(x.unique().tolist()) == {0.0, 1.0}
    assert not encoder.constant(image) and torch.equal(x, encoder(image))
    for t in range(6):
        assert torch.equal(encoder.step(image, t), x[t : t + 1])
    for i in range(2):  # of one image alone, the same
        assert torch.equal(encoder(image[i : i + 1]), x[:, i : i + 1])
    assert encoder(events) is events and torch.equal(encoder.step(events, 4), events[4:5])
    with pytest.raises(ValueError, match="t = 6: the events have T=6 frames"):
        encoder.step(events, 6)
    with pytest.raises(ValueError, match="expected images"):
        encoder(image[0])


def test_bernoulli_rates(golden, monkeypatch):
    g = golden("conv_coding_pool")
    encoder = BernoulliEncoder(64, gain=g["c"].item())
    monkeypatch.setattr(encoder, "uniform", lambda t, like: g["uniform"][t])
    assert torch.equal(encoder(g["x"][None])[:, 0], g["bernoulli"])

    grey = torch.linspace(0, 1, 11).view(1, 1, 1, 11).expand(2, 3, 80, 11)
    short, long = BernoulliEncoder(8, gain=0.5)(grey), BernoulliEncoder(16, gain=0.5)(grey)
    assert torch.equal(long[:8], short)  # whatever T
    assert torch.equal(long[:, 0], long[:, 1])  # whatever the batch
    assert (long.mean((0, 1, 2, 3)) - 0.5 * grey[0, 0, 0]).abs().max() < 0.03
    assert BernoulliEncoder(8, gain=0.5).input_scale == 2.0 and DirectEncoder(8).input_scale == 1.0
    draws = [long, BernoulliEncoder(16, gain=0.5, seed=1)(grey)]
    assert (
        not torch.equal(*draws) and not torch.equal(long[0], long[1]) and not torch.equal(long[:, :, 0], long[:, :, 1])
    )


@pytest.mark.parametrize("rounding", ["round", "floor"])
def test_spike_times_of_latency_coding(golden, rounding):
    g = golden("conv_coding_pool")
    encoder = LatencyEncoder(g["ttfs_T"].item(), rounding)
    x = encoder(g["x"][None])[:, 0]
    assert torch.equal(x.argmax(0), g[f"ttfs_time_{rounding}"]) and (x.sum(0) == 1).all()
    assert torch.equal(encoder.step(g["x"][None], encoder.T + 3)[0, 0], x[3])  # the code begins again
    assert LatencyEncoder(5)(torch.tensor([-1.0, 0, 1, 2]).view(1, 1, 1, 4)).argmax(0).flatten().tolist() == [
        4,
        4,
        0,
        0,
    ]


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: DirectEncoder(0), "T must be at least 1, got 0"),
        (lambda: BernoulliEncoder(4, gain=0.0), "gain = 0.0: give a positive number"),
        (lambda: BernoulliEncoder(4, seed=-1)(torch.zeros(1, 1, 2, 2)), "seed = -1: give 0 or more"),
        (lambda: LatencyEncoder(4, "ceil"), "rounding = 'ceil'.*There are floor, round"),
    ],
)
def test_wrong_arguments_are_named(build, words):
    with pytest.raises(ValueError, match=words):
        build()


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


@pytest.mark.parametrize("pixels", ["imagenet", "bgr255"])
def test_published_pixel_values(pixels):
    """The network gets the values that torchvision's Normalize, or OpenCV's uint8 images, have."""
    x = torch.rand(2, 3, 4, 5)
    expected = x.flip(1) * 255
    if pixels == "imagenet":
        expected = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])(x)
    encoder = PixelEncoder(3, pixels)
    torch.testing.assert_close(encoder(x), expected.expand(3, 2, 3, 4, 5))
    assert encoder.constant(x) and torch.equal(encoder.step(x, 7), encoder(x)[:1])
    assert not encoder.state_dict()
    with pytest.raises(ValueError, match=f"pixels = '{pixels}': needs images .B, 3, H, W., got .3, 2, 2, 8, 8."):
        encoder(torch.rand(3, 2, 2, 8, 8))
    with pytest.raises(ValueError, match="pixels = 'imagnet', did you mean 'imagenet'"):
        PixelEncoder(1, "imagnet")


def test_a_twin_converts_with_its_pixel_values():
    torch.manual_seed(0)
    model = create_model("spiking_yolox_plif_s", num_classes=2, width=0.125, neuron="relu", pixels="imagenet").eval()
    x = torch.rand(1, 3, 32, 32)
    snn = convert(model, calibrate(model, [x]), T=4)
    assert torch.equal(snn.encode(x), model.encode(x)[:1].expand(4, -1, -1, -1, -1))
