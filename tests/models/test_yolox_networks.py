"""EAS-SNN and SpikingYOLOX as whole networks against the slow reference: every layer, logits, gradients, statistics.

In float64, where no potential is within rounding of a threshold.
"""

from functools import partial

import pytest
import torch
from layer_by_layer import (
    SIZE,
    YOLOX,
    agree,
    enliven,
    inputs_of_convolutions,
    published_state,
    same_layers,
    same_training,
)
from published_yolox import EASSNN, BackupBackbone, SpikingYOLOX, atan, sigmoid

from models import create_model, list_models
from models.published import published_names
from neurons.plif import PLIF

RELEASED, PORTED = ("nano", "tiny", "s", "m", "l", "x"), ("s", "m", "l")
MODES = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
# Every size with every spiking variant; in "s" each with both stems, and with 1 and 3 frames of the sampler.
EAS = [
    (size, spiking, stem, slots)
    for size in "sml"
    for spiking in ("full", "backbone_neck", "backbone", "none")
    for stem, slots in (("focus", 1), ("spiking", 3), ("focus", 3), ("spiking", 1))
    if size == "s" or (stem, slots) == ("focus", 1)
    if (spiking, stem) != ("none", "spiking")  # whose 6 x 6 stem would spike
]


def lively(name, x, lift=0.0, **kwargs):
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, width=0.125, **kwargs).double()
    for m in model.modules():
        if isinstance(m, PLIF):
            torch.nn.init.normal_(m.w, std=0.6)
    enliven(model, x, lift)
    return model


def micro_bins():
    torch.manual_seed(1)
    return torch.poisson(torch.full((2, 1, 4, 2, *SIZE), 0.5, dtype=torch.float64))


def image():
    torch.manual_seed(1)
    return torch.rand(2, 3, *SIZE, dtype=torch.float64)


def compare(model, x, training, network, raw):
    """network: of the slow reference, from (state, training). raw(slow network): its logits."""
    state = published_state(model)
    slow = network(state, training=training)
    model.train(training)
    seen = inputs_of_convolutions(model)
    ours, theirs = model.raw(x), raw(slow)
    layers = {name: y for name, y in seen.items() if not name.startswith("embedding.")}
    maps = {"embedding"} | {name for name in slow.seen if f"{name}.weight" not in state}
    assert set(layers) == set(slow.seen) - maps
    same_layers(layers, slow.seen)
    for mine, other in zip(ours, theirs, strict=True):
        agree(mine, other, "logits")
    same_training(model, state, ours, theirs)
    return slow


def some_spikes(slow, least):
    spikes = [s for name, s in slow.seen.items() if name != "embedding" and not (s - s.round()).any()]
    assert len(spikes) >= least
    assert sum(bool(s.any()) for s in spikes) >= 0.8 * len(spikes)


def test_every_size_is_compared():
    names = {f"eas_snn_{size}" for size, *_ in EAS} | {f"spiking_yolox_{size}" for size in RELEASED}
    names |= {f"spiking_yolox_plif_{size}" for size in PORTED}
    assert names == {name for name in list_models() if name.startswith(YOLOX)}


@MODES
@pytest.mark.parametrize(("size", "spiking", "stem", "slots"), EAS)
def test_eas_snn(size, spiking, stem, slots, training):
    x = micro_bins()
    sampler = {"name": "arsnn", "k": 5, "depth": 2, "out_steps": slots}
    T = 1 if spiking == "none" else 3
    model = lively(f"eas_snn_{size}", x, T=T, spiking=spiking, stem=stem, sampler=sampler)
    slow = compare(model, x, training, EASSNN, raw=lambda slow: slow.raw(slow.sample(x, T=3, slots=slots)))
    frames = slow.seen["embedding"]
    agree(model.encoder(x)[:slots], frames[:T], "sampler")
    assert (frames == 0).any() and all(frame.any() for frame in frames)
    some_spikes(slow, {"full": 60, "backbone_neck": 50, "backbone": 30, "none": 0}[spiking])


@MODES
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("arsnn", {"rpd": False, "sat": False}),
        ("arsnn", {"readout": "last", "rpd": False}),
        ("arsnn", {"readout": "avg", "rpd": False}),
        ("arsnn", {"reverse": False}),
        ("rsnn", {}),
        ("snn", {}),
        ("count", {}),
    ],
)
def test_eas_snn_with_another_sampler(name, options, training):
    x = micro_bins()
    model = lively("eas_snn_s", x, sampler={"name": name, "k": 5, "depth": 2, **options})
    compare(model, x, training, EASSNN, raw=lambda slow: slow.raw(slow.sample(x, 3, name, **options)))


@MODES
def test_eas_snn_for_ncaltech101(training):
    """One 7 x 7 convolution in the sampler, the spiking stem, and a wider surrogate."""
    x = micro_bins()
    model = lively(
        "eas_snn_m",
        x,
        neuron={"name": "plif", "surrogate": {"name": "atan", "alpha": 1.5}},
        spiking="backbone",
        stem="spiking",
        sampler={"name": "arsnn", "k": 7, "depth": 1},
    )
    network = partial(EASSNN, fire=partial(atan, alpha=1.5))
    compare(model, x, training, network, raw=lambda slow: slow.raw(slow.sample(x, T=3)))


@MODES
@pytest.mark.parametrize("size", RELEASED)
def test_spiking_yolox_as_released(size, training):
    x = image()
    model = lively(f"spiking_yolox_{size}", x)
    slow = compare(model, x, training, SpikingYOLOX, raw=lambda slow: slow.raw(x[None]))
    some_spikes(slow, 1)


@MODES
@pytest.mark.parametrize("size", PORTED)
def test_static_port(size, training):
    x = image()
    model = lively(f"spiking_yolox_plif_{size}", x)
    network = partial(EASSNN, fire=partial(sigmoid, alpha=2.0))
    slow = compare(model, x, training, network, raw=lambda slow: slow.raw(x.expand(3, *x.shape)))
    some_spikes(slow, 60)


@MODES
@pytest.mark.parametrize("size", "sm")
def test_backup_backbone(size, training):
    """Its features: no published network is around it."""
    x = image()
    model = lively(f"spiking_yolox_{size}", x, lift=1.0, spike_stages="backup")
    state = published_state(model)
    slow = BackupBackbone(state, training)
    model.train(training)
    seen = inputs_of_convolutions(model)
    ours, theirs = model.network.features(x[None]), slow.backbone(x[None])[-3:]
    same_layers(seen, slow.seen)
    for mine, other in zip(ours, theirs, strict=True):
        agree(mine, other, "features")
    sum((mine**2).mean() for mine in ours).backward()
    sum((other**2).mean() for other in theirs).backward()
    named = published_names(model)
    for key, p in model.named_parameters():
        if p.grad is not None:
            agree(p.grad, state[named[key]].grad, key)
    some_spikes(slow, 10)
