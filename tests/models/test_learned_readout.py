"""readout: learned weights of the T steps, for every model and head."""

import pytest
import torch
from test_detectors import build, targets

from models import Detector, load_published_weights, to_published_state_dict
from models.deploy import calibrate, convert
from models.deploy.binary import binary_check, to_binary
from models.deploy.fuse import fuse
from models.layers.step_weights import StepWeights
from models.layers.watch import watch
from models.transfer import fitting_weights
from neurons import Stream

HEADS = ["anchor", "dfl", "yolox"]


def learned(name, **kwargs):
    """With weights that are not 1/T, and BatchNorms that let spikes through."""
    model = build(name, readout="learned", **kwargs)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, StepWeights):
                m.weight.uniform_(-1, 1)
            if isinstance(m, torch.nn.BatchNorm2d):
                m.weight.uniform_(0.8, 1.6)
                m.bias.uniform_(-0.2, 0.5)
    return model


@pytest.mark.parametrize("head", HEADS)
def test_it_starts_at_the_mean(head):
    plain, model = build("ems_resnet10_ee", T=4, head=head), build("ems_resnet10_ee", T=4, head=head, readout="learned")
    assert set(plain.state_dict()) == {key for key in model.state_dict() if "step_weights" not in key}
    x = torch.rand(2, 3, 64, 64) * 4
    with torch.no_grad():
        for a, b in zip(plain.eval().raw(x), model.eval().raw(x), strict=True):
            assert torch.equal(a, b)  # 4 weights of 1/4


@pytest.mark.parametrize("head", HEADS)
def test_logits_are_the_weighted_sum_of_the_steps(head):
    """W (sum w[t] x[t]) + b of the maps x[t] that the convolution gets; the bias is not weighted."""
    model = learned("ems_resnet10_ee", head=head, in_channels=2, T=3).double().eval()
    convs, seen, made = model.head.readouts(), {}, {}
    with (
        torch.no_grad(),
        watch([conv.step_weights for conv in convs], lambda m, x, _: seen.update({m: x})),
        watch(convs, lambda m, _, out: made.update({m: out})),
    ):
        model.raw(torch.rand(3, 2, 2, 64, 64, dtype=torch.float64) * 3)
    for conv, out in made.items():
        x, w = seen[conv.step_weights], conv.step_weights.weight
        expected = sum(w[t] * torch.nn.functional.conv2d(x[t], conv.weight) for t in range(3))
        torch.testing.assert_close(out, expected + conv.bias.view(-1, 1, 1))
    assert len(made) == len(model.head.readouts()) and any(x.any() for x in seen.values())


@pytest.mark.parametrize("head", HEADS)
def test_the_mean_over_calls_of_any_length_in_a_stream_equals_one_call(head):
    model = learned("ems_resnet10_ee", neuron="lif", head=head, in_channels=2, T=4).double().eval()
    x = torch.rand(8, 2, 2, 64, 64, dtype=torch.float64) * 3
    with torch.no_grad():
        for parts in ([1] * 4, [3, 1], [2, 2], [1] * 3, [1] * 8, [4, 4]):  # of T steps, of fewer, of two windows
            K = sum(parts)
            with Stream(model):
                calls = [len(part) * level for part in x[:K].split(parts) for level in model.logits(part)[:1]]
            torch.testing.assert_close(sum(calls) / K, model.logits(x[:K])[0], rtol=1e-9, atol=1e-9)


def test_a_row_that_starts_again_has_the_first_weights():
    weights = StepWeights(3)
    with torch.no_grad():
        weights.weight.copy_(torch.tensor([1.0, 2.0, 3.0]) / 3)
    x = torch.ones(1, 2, 4)
    with Stream(weights) as stream:
        seen = [weights(x)[0, :, 0].tolist() for _ in range(2)]
        stream.reset(rows=torch.tensor([True, False]))
        seen += [weights(x)[0, :, 0].tolist() for _ in range(2)]
    assert torch.allclose(torch.tensor(seen), torch.tensor([[1.0, 1], [2, 2], [1, 3], [2, 1]]))
    assert torch.allclose(weights(x)[0, :, 0], torch.ones(2))


def test_fused_and_binary_networks_keep_the_weights():
    model = learned("spikeyolo_n", T=2).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for form in ("dense", "separable"):
            for a, b in zip(model.double().raw(x.double()), fuse(model, form).raw(x.double()), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        assert binary_check(model.float(), x)["largest logit difference in float64"] < 1e-9
        assert any(isinstance(m, StepWeights) for m in to_binary(model).modules())


def test_published_names_and_rows_of_classes_are_those_of_the_convolutions():
    for name in ("ems_resnet10", "spikeyolo_n", "spiking_yolox_s"):
        plain, model = build(name), build(name, readout="learned")
        assert set(to_published_state_dict(model)) == set(to_published_state_dict(plain))
        assert not load_published_weights(model, to_published_state_dict(plain)).missing
        assert model.head.class_rows() == plain.head.class_rows()
        transfer = fitting_weights(model, plain.state_dict(), ["a", "b", "c"], ["c", "b", "x"])
        assert all("step_weights" in key for key in transfer.absent) and not transfer.shape_differs


def test_what_has_no_steps_to_weigh_is_named():
    with pytest.raises(ValueError, match="readout = 'lerned', did you mean 'learned'"):
        build("ems_resnet10_ee", readout="lerned")
    for spiking in ("backbone", "backbone_neck", "none"):
        with pytest.raises(ValueError, match="readout = 'learned': the head of this network sees no single steps"):
            build("eas_snn_s", spiking=spiking, readout="learned")

    class Head(torch.nn.Module):
        def __init__(self, channels, strides, num_classes):
            super().__init__()

    with pytest.raises(ValueError, match="readout = 'learned': Head does not name the convolutions of its logits"):
        build("ems_resnet10_ee", head=Head, readout="learned")


def test_it_does_not_convert():
    model, x = build("ems_resnet10_ee", neuron="relu", readout="learned").eval(), torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match="readout = 'learned': has weights for T steps, and a converted network"):
        calibrate(model, [x])
    with pytest.raises(ValueError, match="readout = 'learned'"):
        convert(model, {})


@pytest.mark.parametrize("head", HEADS)
def test_bfloat16_and_channels_last(head):
    model = learned("ems_resnet10_ee", head=head).train().to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(torch.rand(2, 3, 64, 64) * 4, targets())
    sum(losses.values()).backward()
    assert all(v.dtype == torch.float32 and v.isfinite() for v in losses.values())


def test_export():
    model = learned("ems_resnet10_ee", T=2).eval()
    x = torch.rand(1, 3, 64, 64)

    class Logits(torch.nn.Module):
        def __init__(self, model: Detector):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model.raw(x)

    with torch.no_grad():
        exported = torch.export.export(Logits(model), (x,)).module()
        for a, b in zip(exported(x), model.raw(x), strict=True):
            torch.testing.assert_close(a, b)
