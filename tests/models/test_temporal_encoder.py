"""encoder: temporal, whose steps of a still image differ, for every model."""

import pytest
import torch
from test_detectors import build

from models import create_model, load_published_weights
from models.deploy import calibrate, convert, simulate
from models.encoders import DirectEncoder, PixelEncoder
from models.noise import SaltAndPepper
from models.temporal_encoder import TemporalEncoder


def encoder_of(T=4, channels=3):
    """With features of the size of the image, and statistics that are not those of the start."""
    torch.manual_seed(0)
    encoder = TemporalEncoder(DirectEncoder(T), channels)
    with torch.no_grad():
        encoder.alpha_b.fill_(0.7)
        encoder.alpha_c.fill_(1.3)
        if T > 1:
            encoder.bn.weight.fill_(1.0)
            encoder.bn.bias.uniform_(-0.5, 0.5)
            encoder.bn.running_var.uniform_(0.5, 2)
    return encoder.eval()


def test_the_steps_are_those_of_the_equation():
    encoder, p = encoder_of(), torch.rand(2, 3, 8, 10)
    with torch.no_grad():
        x = encoder(p)
        added = torch.nn.functional.conv2d(p, encoder.conv.weight, padding=1)
        added = torch.relu(encoder.bn(added))  # [2, 3 * 3, 8, 10]
        f = p
        for t in range(4):
            if t:
                f = f + added[:, 3 * t - 3 : 3 * t]
            tau = t / (t + 1)
            torch.testing.assert_close(x[t], 0.7 * (1 - tau) * p + 1.3 * tau * f)
        assert all(not torch.equal(x[a], x[b]) for a in range(4) for b in range(a))
        torch.testing.assert_close(encoder(p[1:]), x[:, 1:])  # whatever the batch


@pytest.mark.parametrize("pixels", [None, "imagenet"])
def test_it_starts_near_direct_coding(pixels):
    torch.manual_seed(0)
    own = DirectEncoder(4) if pixels is None else PixelEncoder(4, pixels)
    encoder, image = TemporalEncoder(own, 3), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        x, direct = encoder(image), own(image)
    assert torch.equal(x[0], direct[0])
    assert 0 < (x[1:] - direct[1:]).abs().mean() < 0.2 * direct.std()


def test_any_number_of_steps():
    encoder, image = encoder_of(3), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        x = encoder(image)
        for T in (1, 2, 7):  # with more steps the code begins again
            encoder.T = T
            assert torch.equal(encoder(image), x[torch.arange(T) % 3])
        for t in (0, 2, 5, 300):
            assert torch.equal(encoder.step(image, t), x[t % 3][None])
    assert not encoder.constant(image)


def test_one_step_is_the_image_times_a_learned_factor():
    encoder, image = encoder_of(1), torch.rand(2, 3, 8, 8)
    assert {key for key, _ in encoder.named_parameters()} == {"alpha_b", "alpha_c"}
    assert torch.equal(encoder(image), 0.7 * image[None]) and encoder.constant(image)
    encoder.T = 3
    assert torch.equal(encoder(image), (0.7 * image).expand(3, -1, -1, -1, -1))


def test_simulation_equals_one_call():
    model = build("ems_resnet10_ee", neuron="lif", T=4, encoder="temporal").double().train()
    image = torch.rand(2, 3, 64, 64, dtype=torch.float64) * 3
    with torch.no_grad():
        for m in model.network.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.weight.uniform_(0.8, 1.6)
        for _ in range(2):
            model.raw(image)
        model.eval()
        for T, logits in list(simulate(model, image, [1, 4, 6])):
            model.T = T
            for a, b in zip(logits, model.raw(image), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_noise_is_on_the_image_that_is_encoded():
    encoder, image = encoder_of(4), torch.rand(2, 3, 8, 8)
    noisy = SaltAndPepper(encoder, density=0.3, noisy_steps=1, period=2)
    with torch.no_grad():
        x = noisy(image)
        assert torch.equal(x[1], encoder(image)[1]) and not torch.equal(x[0], encoder(image)[0])


def test_what_it_cannot_encode_is_named():
    with pytest.raises(ValueError, match="unknown encoder 'tempral', did you mean 'temporal'"):
        build("ems_resnet10_ee", encoder="tempral")
    with pytest.raises(ValueError, match="encoder 'temporal' has no argument 'tau'"):
        build("ems_resnet10_ee", encoder={"name": "temporal", "tau": 2})
    with pytest.raises(ValueError, match="encoder = 'temporal': this model has .* SamplerEncoder: leave it out"):
        build("eas_snn_s", encoder="temporal")
    model = build("ems_resnet10_ee", T=3, encoder={"name": "temporal"}, in_channels=2)
    with pytest.raises(ValueError, match="makes the steps of images .B, C, H, W., got events .3, 1, 2, 64, 64."):
        model.encode(torch.rand(3, 1, 2, 64, 64))
    with pytest.raises(ValueError, match="only an encoder with a learned sampler takes them"):
        model.encode(torch.rand(1, 3, 2, 2, 64, 64))
    with pytest.raises(ValueError, match="TemporalEncoder, the encoder of this model, has no `published_names`"):
        load_published_weights(model, {})


def test_it_does_not_convert():
    model, x = build("ems_resnet10_ee", neuron="relu", encoder="temporal").eval(), torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match="encoder = 'temporal': the steps of an image differ, and a converted network"):
        calibrate(model, [x])
    with pytest.raises(ValueError, match="encoder = 'temporal'"):
        convert(model, {}, encoder=DirectEncoder(4))


def test_bfloat16_and_channels_last():
    encoder, image = encoder_of(3), torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        x = encoder(image)
        with torch.autocast("cpu", torch.bfloat16):
            assert encoder(image).dtype == torch.float32
            torch.testing.assert_close(encoder(image), x, rtol=0.03, atol=0.03)
        encoder = encoder.to(memory_format=torch.channels_last)
        torch.testing.assert_close(encoder(image.to(memory_format=torch.channels_last)), x)


def test_export():
    encoder, image = encoder_of(3), torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(torch.export.export(encoder, (image,)).module()(image), encoder(image))


def test_it_is_off_by_default():
    assert type(create_model("ems_resnet10_ee", num_classes=2, width=0.125, encoder=None).encoder) is DirectEncoder
