"""Every registered network as a whole: against the published tables, layer by layer, and its operations counted."""

import pytest
import torch
from layer_by_layer import (
    CONVOLUTIONS,
    SIZE,
    YOLOX,
    agree,
    enliven,
    inputs_of_convolutions,
    published_state,
    same_layers,
    same_training,
)
from published_networks import EMS, SpikeYOLO, SpikingYOLOv3, ilif, ilif_gen1, lif, qcfs, relu
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from models import create_model, list_models

# (GMAC per step at 320 x 320 of all convolutions, re-parameterised ones not fused; convolutions; BatchNorms), of the
# published networks at 80 classes, and at 2 those of the Gen1 code.
PUBLISHED = {
    "ems_resnet10": (3.644, 27, 25),
    "ems_resnet18": (4.437, 31, 29),
    "ems_resnet34": (9.267, 51, 49),
    "ems_resnet34_cat": (8.251, 47, 45),
    "ems_resnet10_ee": (1.499, 27, 25),
    "ems_resnet18_ee": (2.443, 35, 33),
    "sew_resnet18": (2.403, 35, 33),
    "spikeyolo_n": (8.684, 129, 123),
    "spikeyolo_s": (15.203, 129, 123),
    "spikeyolo_m": (31.505, 161, 155),
    "spikeyolo_l": (45.152, 161, 155),
    "spikeyolo_gen1_n": (3.981, 129, 123),
    "spikeyolo_gen1_s": (15.182, 129, 123),
    "spiking_yolov3": (1.956, 19, 17),
    "spiking_yolov3_fc": (1.956, 19, 17),
}
GRADED = {"sew_resnet18", "spiking_yolov3", "spiking_yolov3_fc"}  # no layer's output is whole numbers
SLOW = {
    "ems": (EMS, lif),
    "sew": (EMS, lif),
    "spikeyolo": (SpikeYOLO, ilif),
    "spikeyolo_gen1": (SpikeYOLO, ilif_gen1),
    "spiking_yolov3": (SpikingYOLOv3, relu),
    "spiking_yolov3_fc": (SpikingYOLOv3, qcfs),
}


@pytest.mark.parametrize("name", sorted({*list_models(), *PUBLISHED}))
def test_every_registered_network_is_compared(name):
    assert name in list_models()
    if name not in PUBLISHED and not name.startswith(YOLOX):
        pytest.skip("no published network to compare it with")


@pytest.mark.parametrize("name", PUBLISHED)
def test_operations_and_layers_are_those_of_the_published_network(name):
    gmac, convolutions, norms = PUBLISHED[name]
    with FakeTensorMode() as shapes_only:
        model = create_model(name, T=1, neuron="relu").eval()
    layers = [m for m in model.modules() if isinstance(m, CONVOLUTIONS)]
    assert len(layers) == convolutions
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == norms
    macs = 0

    def count(conv, args, y):
        nonlocal macs
        positions = args[0] if isinstance(conv, nn.ConvTranspose2d) else y
        macs += positions[:, 0].numel() * conv.weight.numel()

    for layer in layers:
        layer.register_forward_hook(count)
    with shapes_only, torch.no_grad():
        model.raw(torch.zeros(1, 3, 320, 320))
    assert macs / 1e9 == pytest.approx(gmac, abs=5e-4)


def lively(name, T=2):
    """A narrow network in float64 under whose weights and statistics spikes reach the head, and its input."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, T=T, width=0.125).double()
    x = torch.rand(2, 3, *SIZE, dtype=torch.float64)
    enliven(model, x)
    return model, x


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_layer_equals_the_published_table(name, training):
    """Inputs of all convolutions (so the output of every neuron), logits, losses, gradients and statistics.

    In float64, where no potential is within rounding of a threshold.
    """
    model, x = lively(name)
    family = max((k for k in SLOW if name.startswith(k)), key=len)
    network, neuron = SLOW[family]
    state = published_state(model)
    slow = network(state, neuron, training)
    model.train(training)
    seen = inputs_of_convolutions(model)

    ours, theirs = model.raw(x), slow.raw(x.expand(model.T, *x.shape), name)
    assert set(seen) == set(slow.seen)
    same_layers(seen, slow.seen)
    for mine, other in zip(ours, theirs, strict=True):
        agree(mine, other, "logits")
    spikes = [s for s in slow.seen.values() if not (s - s.round()).any()]
    if name in GRADED:
        assert all(s.any() for s in slow.seen.values())
    else:
        assert len(spikes) > 10
    assert sum(bool(s.any()) for s in spikes) >= 0.8 * len(spikes)

    same_training(model, state, ours, theirs)
