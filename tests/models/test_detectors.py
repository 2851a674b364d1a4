"""Every registered model keeps the detector contract; the registry is the matrix."""

import math

import pytest
import torch

from models import create_model, list_models
from models.registry import model_defaults
from neurons import Stream
from neurons.base import MultiStepNeuron

WIDTH = 0.125


def targets():
    return [
        {"boxes": torch.tensor([[4.0, 6.0, 40.0, 50.0], [30.0, 10.0, 60.0, 30.0]]), "labels": torch.tensor([0, 2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]


def build(name, seed=0, **kwargs):
    torch.manual_seed(seed)
    small = {"width": WIDTH} if "width" in model_defaults(name) else {}  # which a model of your own need not have
    # Images have 3 channels, also for models of events.
    return create_model(name, **{"num_classes": 3, "T": 2, "in_channels": 3} | small | kwargs)


@pytest.mark.parametrize("name", list_models())
class TestEveryModel:
    @pytest.mark.parametrize("neuron", ["lif", "relu"])
    def test_trains_every_parameter(self, name, neuron):
        model = build(name, neuron=neuron).train()
        losses = model(torch.rand(2, 3, 64, 64) * 4, targets())
        sum(losses.values()).backward()
        assert all(v.dim() == 0 and v.isfinite() for v in losses.values())
        for key, p in model.named_parameters():
            assert not p.requires_grad or (p.grad is not None and p.grad.isfinite().all()), key

    def test_trains_on_images_without_boxes(self, name):
        model = build(name).train()
        empty = [targets()[1]] * 2
        losses = model(torch.rand(2, 3, 64, 64), empty)
        sum(losses.values()).backward()
        # Nothing to place; what is left is to say that there is nothing.
        assert losses["box"] == 0 and sum(losses.values()) > 0

    def test_detects(self, name):
        model = build(name).eval()
        with torch.no_grad():
            detections = model(torch.rand(2, 3, 64, 96))
        assert len(detections) == 2
        for d in detections:
            n = len(d["scores"])
            assert d["boxes"].shape == (n, 4) and d["labels"].shape == (n,) and d["labels"].dtype == torch.int64
            assert (d["scores"].diff() <= 0).all()

    def test_same_input_same_output(self, name):
        model = build(name).eval()
        x = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            for a, b in zip(model.raw(x), model.raw(x), strict=True):
                assert torch.equal(a, b)

    def test_takes_events_of_odd_size_and_rejects_another_T(self, name):
        model = build(name, in_channels=2, T=3).eval()
        with torch.no_grad():
            raw = model.raw(torch.rand(3, 2, 2, 120, 152))
        for r, stride in zip(raw, model.head.strides, strict=True):
            size = r.shape[2:4]  # [B, A, H, W, ...] or [B, C, H, W]
            assert r.shape[0] == 2 and tuple(size) == (math.ceil(120 / stride), math.ceil(152 / stride))
        with pytest.raises(ValueError, match="T=3 steps, but the events have T=4"):
            model.raw(torch.rand(4, 2, 2, 64, 64))

    @pytest.mark.parametrize("head", ["anchor", "dfl", "yolox"])
    def test_the_mean_over_calls_with_one_step_equals_one_call(self, name, head):
        """In float64, where no potential is within rounding of a threshold, with BatchNorms that let spikes through."""
        model = build(name, head=head, in_channels=2, T=5).double().train()
        if all(m.memoryless for m in model.modules() if isinstance(m, MultiStepNeuron)):  # an ANN by default
            model = build(name, neuron="lif", head=head, in_channels=2, T=5).double().train()
        x = torch.rand(5, 2, 2, 64, 64, dtype=torch.float64) * 3
        with torch.no_grad():
            for m in model.modules():
                if isinstance(m, torch.nn.BatchNorm2d):
                    m.momentum = 0.5
                    m.weight.uniform_(0.8, 1.6)
                    m.bias.uniform_(-0.2, 0.5)
            for _ in range(2):
                model.logits(x)
            model.eval()
            whole, at_rest = model.logits(x), [model.logits(step[None]) for step in x]
            with Stream(model):
                steps = [model.logits(step[None]) for step in x]
        for level, logits in enumerate(whole):
            torch.testing.assert_close(torch.stack([s[level] for s in steps]).mean(0), logits, rtol=1e-9, atol=1e-9)
        assert not all(torch.equal(s[0], r[0]) for s, r in zip(steps, at_rest, strict=True))  # membranes went on

    def test_state_dict_round_trip(self, name):
        a, b = build(name).eval(), build(name, seed=1).eval()
        b.load_state_dict(a.state_dict())
        x = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            assert all(torch.equal(p, q) for p, q in zip(a.raw(x), b.raw(x), strict=True))

    def test_bfloat16_autocast_trains(self, name):
        model = build(name).train()
        with torch.autocast("cpu", torch.bfloat16):
            losses = model(torch.rand(2, 3, 64, 64), targets())
        sum(losses.values()).backward()
        assert all(v.dtype == torch.float32 and v.isfinite() for v in losses.values())

    def test_channels_last_trains_and_agrees(self, name):
        model = build(name).train().to(memory_format=torch.channels_last)
        x = torch.rand(2, 3, 64, 64)
        sum(model(x, targets()).values()).backward()
        # In float64, where another order of sums does not make a neuron fire that would not.
        plain, x = build(name).network.double(), x.double().expand(2, -1, -1, -1, -1)
        other = build(name).network.double().to(memory_format=torch.channels_last)
        for a, b in zip(plain(x), other(x), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-9)

    def test_wrong_arguments_are_named(self, name):
        with pytest.raises(ValueError, match="did you mean 'num_classes'"):
            create_model(name, num_clases=1)
        with pytest.raises(ValueError, match="T must be at least 1"):
            build(name, T=0)


def test_unknown_model_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'ems_resnet18'"):
        create_model("ems_resnet_18")


def test_training_needs_targets():
    model = build("ems_resnet10_ee").train()
    with pytest.raises(ValueError, match="needs targets"):
        model(torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="2 images, but 1 targets"):
        model(torch.rand(2, 3, 64, 64), targets()[:1])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("with_targets", [False, True])
def test_logits_that_are_not_finite_are_no_image_without_objects(value, with_targets):
    model = create_model("ems_resnet10_ee", num_classes=2, T=1, width=0.125).eval()
    raw = model.raw(torch.rand(3, 3, 64, 64))
    raw[1][2, 0, 0, 0, 4] = value
    model.raw = lambda x: raw
    target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    with pytest.raises(ValueError, match=r"not finite for 1 of 3 images, entries \[2\]") as caught:
        model(torch.rand(3, 3, 64, 64), [target, None, None] if with_targets else None)
    assert caught.value.entries == [2]
