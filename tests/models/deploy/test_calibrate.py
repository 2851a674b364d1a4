"""Calibration: scales are percentiles of the activations of the ANN, whatever the batches, and it is not changed."""

import copy
import inspect

import pytest
import torch
from torch import nn

from models import create_model
from models.deploy.calibrate import calibrate
from models.deploy.histogram import BIN_WIDTH, LogHistogram
from neurons import build_neuron


class Net(nn.Module):
    """Two activations; of the first, channel 2 is never active."""

    def __init__(self, neuron="relu"):
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(2, 4, 3, padding=1), build_neuron(neuron)
        self.bn = nn.BatchNorm2d(4)
        self.conv2, self.act2 = nn.Conv2d(4, 5, 3), build_neuron(neuron)
        with torch.no_grad():
            self.conv1.weight[2], self.conv1.bias[2] = 0, -1

    def forward(self, x):
        return self.act2(self.conv2(self.bn(self.act1(self.conv1(x)))))


def net(neuron="relu", dtype=torch.float32):
    torch.manual_seed(0)
    return Net(neuron).to(dtype)


def images(n=9, dtype=torch.float32):
    return torch.randn(n, 2, 12, 10, generator=torch.Generator().manual_seed(1), dtype=dtype)


def outputs(model, x):
    """{layer: output} in evaluation."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        first = model.act1(model.conv1(x))
        return {"act1": first, "act2": model.act2(model.conv2(model.bn(first)))}


def percentile(values, share):
    """Of each row, as numpy's."""
    return values.double().quantile(share, dim=1)


def close(found, exact):
    return (found >= exact * (1 - 1e-6)).all() and (found <= exact * (1 + BIN_WIDTH)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("neuron", ["relu", "leaky_relu"])
def test_scales_are_percentiles_of_the_channels(neuron, dtype):
    model, x = net(neuron, dtype), images(dtype=dtype)
    table = calibrate(model, x.split(4), percentile=95)
    assert list(table) == ["act1", "act2"]
    assert table.origin == {"images": 9, "statistic": "all", "percentile": 95.0, "granularity": "channel"}
    for name, y in outputs(model, x).items():
        exact = percentile(y.abs().transpose(0, 1).flatten(1), 0.95)
        assert close(table[name], exact.maximum(1e-3 * exact.max()))
        assert 0.03 < table.clipped[name] <= 0.05


def test_the_percentile_100_is_the_maximum():
    model, x = net(), images()
    table = calibrate(model, x.split(4), percentile=100)
    for name, y in outputs(model, x).items():
        exact = y.amax((0, 2, 3)).double()
        torch.testing.assert_close(table[name], exact.maximum(1e-3 * exact.max()), rtol=1e-6, atol=0)
    assert set(table.clipped.values()) == {0.0}


def test_per_image_maxima():
    model, x = net(), images()
    table = calibrate(model, x.split(4), percentile=50, statistic="per_image_max")
    layer = calibrate(model, x.split(4), percentile=50, statistic="per_image_max", granularity="layer")
    for name, y in outputs(model, x).items():
        exact = y.amax((2, 3)).sort(0).values[4].double()
        assert close(table[name], exact.maximum(1e-3 * exact.max()))
        assert close(layer[name], y.amax((1, 2, 3)).median().double())
        assert layer.clipped[name] == 4 / 9  # of the maxima


def test_one_scale_per_layer():
    model, x = net(), images()
    table = calibrate(model, x.split(4), percentile=90, granularity="layer")
    for name, y in outputs(model, x).items():
        assert table[name].shape == y.shape[1:2] and len(set(table[name].tolist())) == 1
        assert close(table[name], percentile(y.reshape(1, -1), 0.9))
        above = [(y > bound).double().mean().item() for bound in (table[name][0] * (1 + BIN_WIDTH), table[name][0])]
        assert above[0] <= table.clipped[name] <= above[1]


def test_channels_and_layers_that_are_never_active():
    model = net()
    table = calibrate(model, [images()])
    assert table["act1"][2] == 1e-3 * table["act1"].max()
    nn.init.constant_(model.conv2.bias, -100.0)
    assert calibrate(model, [images()])["act2"].tolist() == [1] * 5


def test_a_layer_that_is_rarely_active_gets_its_maxima():
    model, x = net(), images()
    nn.init.zeros_(model.conv2.weight)
    nn.init.constant_(model.conv2.weight[:, 1, 1, 1], 1.0)
    y = outputs(model, x)["act2"]
    with torch.no_grad():
        model.conv2.bias.copy_(-y.sort().values.flatten().sort().values[-7] + model.conv2.bias)
    y = outputs(model, x)["act2"]
    assert 0 < y.count_nonzero() < 1e-3 * y.numel() * 5
    torch.testing.assert_close(
        calibrate(model, [x], percentile=90)["act2"], y.amax((0, 2, 3)).double(), rtol=1e-6, atol=0
    )


def test_all_batches_count_equally():
    """One image of large activations among many batches: neither the first nor the last batch decides."""
    model, x = net(), images(32)
    x[5] *= 50
    tables = [calibrate(model, batches, 95) for batches in (x.split(3), x.flip(0).split(5), x.split([1, 30, 1]))]
    for table in tables[1:]:
        for name in table:
            torch.testing.assert_close(table[name], tables[0][name], rtol=BIN_WIDTH, atol=0)
    twice = calibrate(model, [*x.split(3), *x.split(3)], 95)
    assert all(torch.equal(twice[name], tables[0][name]) for name in twice)


def test_batches_are_read_once_and_histograms_do_not_grow(monkeypatch):
    made = []
    make = LogHistogram.__init__
    monkeypatch.setattr(LogHistogram, "__init__", lambda self, *args: (made.append(self), make(self, *args))[1])
    batches = (images(2) for _ in range(20))
    assert inspect.isgenerator(batches) and calibrate(net(), batches).origin["images"] == 40
    assert [h.counts.shape[0] for h in made] == [4, 5] and next(batches, None) is None


@pytest.mark.parametrize("neuron", ["qcfs", "sth"])
@pytest.mark.parametrize("learned", [True, False])
def test_thresholds_are_scales(neuron, learned):
    model = net(neuron)
    if not learned:
        model.act1 = build_neuron(neuron, v_threshold=2.5, learn_threshold=False)
    else:
        with torch.no_grad():
            model.act2.threshold.fill_(-1.0)  # the activation uses at least 1e-3
    table = calibrate(model, [images()])
    assert table["act1"].tolist() == [4.0 if learned else 2.5] * 4
    assert table["act2"].tolist() == pytest.approx([1e-3 if learned else 4.0] * 5) and table.clipped == {}


def test_thresholds_per_channel_are_scales():
    torch.manual_seed(0)
    qcfs = {"name": "qcfs", "per_channel": True}
    model = create_model("spiking_yolov3_fc", num_classes=2, width=0.0625, neuron=qcfs).eval()
    first = next(m for m in model.modules() if getattr(m, "threshold", None) is not None)
    with torch.no_grad():
        first.threshold.uniform_(1, 3)
    table = calibrate(model, [torch.rand(1, 3, 32, 32)])
    assert torch.equal(next(iter(table.values())), first.threshold.detach().double())


def test_the_source_is_not_changed():
    model = net().train()
    model.conv1.eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    rng = torch.get_rng_state()
    calibrate(model, [images()])
    assert modes == [m.training for m in model.modules()] and torch.equal(rng, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_detectors_of_images_and_events():
    torch.manual_seed(0)
    model = create_model("ems_resnet10_ee", num_classes=2, T=4, width=0.125, neuron="relu").eval()
    x = torch.rand(3, 3, 64, 64)
    table = calibrate(model, x.split(2), percentile=100, readout=True)
    neurons = [name for name, m in model.named_modules() if isinstance(m, type(build_neuron("relu")))]
    assert table.origin["images"] == 3 and set(neurons) <= set(table)
    # Event frames are inputs like images: each step of them is one.
    frames = calibrate(model, [x.repeat(4, 1, 1, 1, 1)], percentile=100, readout=True)
    assert frames.origin["images"] == 12
    for name in table:
        torch.testing.assert_close(frames[name], table[name], rtol=1e-5, atol=1e-6)
    logits = [level.detach().abs() for level in model.raw(x)]
    maxima = list(table.values())[-len(logits) :]
    flat = [level.permute(0, 1, 4, 2, 3).flatten(1, 2) for level in logits]  # [B, A, H, W, 5+K] -> [B, C, H, W]
    largest = {tuple(y.amax((0, 2, 3)).double().mul(1e4).round().tolist()) for y in flat}
    assert largest == {tuple(lam.mul(1e4).round().tolist()) for lam in maxima}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"percentile": 0}, r"percentile = 0: give a number above 0 and at most 100"),
        ({"percentile": 100.1}, "percentile = 100.1"),
        ({"percentile": float("nan")}, "percentile = nan"),
        ({"statistic": "max"}, "statistic = 'max'.* There are all, per_image_max"),
        ({"granularity": "chanel"}, "granularity = 'chanel', did you mean 'channel'"),
        ({"batches": []}, "batches: no images to calibrate on"),
        ({"batches": [torch.zeros(1, 2, 8, 8, dtype=torch.uint8)]}, "batches: of torch.uint8; give the inputs"),
        ({"batches": [{"x": 1}]}, "batches: a dict; give the inputs"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        calibrate(net(), **{"batches": [images()]} | arguments)


@pytest.mark.parametrize("neuron", ["relu", "qcfs"])
def test_activations_that_are_not_finite_name_batch_and_layer(neuron):
    model, x = net(neuron), images()
    x[8, 0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="batch 2: activations of act1 are not finite"):
        calibrate(model, x.split(4))
    with torch.no_grad():
        model.conv2.bias[1] = float("nan")
    with pytest.raises(ValueError, match="batch 0: activations of act2 are not finite"):
        calibrate(model, [images()])
