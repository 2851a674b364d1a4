"""Shapes that the encoder takes, and the steps that it makes of the frames."""

import pytest
import torch

from models.samplers import SamplerEncoder, build_sampler
from neurons import MultiStepNeuron
from registry import UserError


def encoder(T: int, **options) -> SamplerEncoder:
    torch.manual_seed(0)
    return SamplerEncoder(T, build_sampler({"name": "arsnn", "k": 3, **options}, 2))


def counts(*shape: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.poisson(torch.ones(shape))


def test_one_frame_is_repeated_as_a_view():
    y = encoder(3)(counts(2, 1, 4, 2, 8, 6))
    assert y.shape == (3, 2, 2, 8, 6)
    assert y.stride(0) == 0


def test_as_many_frames_as_steps_are_the_steps():
    x = counts(2, 1, 4, 2, 8, 6)
    several = encoder(3, out_steps=3)(x)
    assert several.shape == (3, 2, 2, 8, 6)
    torch.testing.assert_close(several[:1], encoder(1)(x))


def test_windows_of_a_call_give_frames_in_order():
    x = counts(2, 3, 4, 2, 8, 6)
    model = encoder(3)
    y = model(x)
    for i in range(3):
        torch.testing.assert_close(y[i], model(x[:, i : i + 1])[0])


def test_one_step_uses_the_first_frame_alone():
    x = counts(2, 1, 4, 2, 8, 6)
    assert torch.equal(encoder(1, out_steps=3)(x), encoder(3, out_steps=3)(x)[:1])


def test_images_and_event_frames_are_windows_of_one_bin():
    x = counts(2, 2, 8, 6)
    model = encoder(3)
    assert torch.equal(model(x), model(x[:, None, None]))
    frames = counts(3, 2, 2, 8, 6)
    assert torch.equal(model(frames), model(frames.transpose(0, 1)[:, :, None]))


def test_steps_may_be_set():
    model = encoder(3)
    model.T = 5
    assert len(model(counts(1, 1, 4, 2, 8, 6))) == 5


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 2, 4, 2, 8, 6), "T=3 steps, but 2 windows of 4 micro-bins give 2 frames"),
        ((4, 2, 2, 8, 6), "the events have T=4"),
        ((8, 6), "got"),
    ],
)
def test_other_numbers_of_frames_are_errors(shape, message):
    with pytest.raises(UserError, match=message):
        encoder(3).check(shape)
    with pytest.raises(UserError, match=message):
        encoder(3)(counts(*shape))


@pytest.mark.parametrize(
    ("shape", "options", "text", "fixed"),
    [
        ((2, 1, 4, 2, 8, 6), {}, "sampler ARSNN: 1 window of 4 micro-bins gives 1 frame, repeated for T=3", None),
        ((2, 3, 4, 2, 8, 6), {}, "sampler ARSNN: 3 windows of 4 micro-bins give 3 frames", 3),
        ((2, 1, 4, 2, 8, 6), {"out_steps": 3}, "1 window of 4 micro-bins gives 3 frames (out_steps=3)", 3),
        ((2, 2, 8, 6), {}, "1 window of 1 micro-bin gives 1 frame, repeated for T=3; data.args.representation=", None),
    ],
)
def test_the_user_is_told_what_becomes_of_a_sample(shape, options, text, fixed):
    model = encoder(3, **options)
    assert text in model.describe(shape)
    assert model.fixed_steps(shape[1] if len(shape) == 6 else 1) == fixed
    model.T = 1
    if fixed:
        assert model.describe(shape).endswith(", the first of them used")


def test_every_parameter_has_a_gradient_whatever_the_input():
    for shape in [(2, 2, 8, 6), (3, 2, 2, 8, 6), (2, 1, 4, 2, 8, 6)]:
        model = encoder(3)
        model(counts(*shape)).sum().backward()
        assert all(p.grad is not None for p in model.parameters()), shape


def test_the_frames_are_not_spikes_but_the_sampler_s_spikes_are():
    spiking = {name for name, m in encoder(3).named_modules() if isinstance(m, MultiStepNeuron) and m.spiking}
    assert spiking == {"sampler.fired"}


def test_membranes_are_float32_under_autocast():
    x = counts(2, 1, 4, 2, 8, 6)
    model = encoder(3)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, model(x))
