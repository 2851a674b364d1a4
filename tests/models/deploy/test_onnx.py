"""Detectors as ONNX: neurons, numbers of images, and errors; every family: tests/engine/test_every_model.py."""

import pytest
import torch
from family_members import member

from models.deploy.binary import to_binary
from models.deploy.onnx_graph.check import Agreement, check
from models.deploy.onnx_graph.detector import to_onnx
from models.deploy.onnx_graph.session import Session
from models.detector import Detector
from models.encoders import DirectEncoder
from models.heads import build_head
from models.layers.time import over_time
from neurons import StepNeuron, build_neuron, list_neurons
from registry import UserError

ABSENT = {"Loop", "Scan", "If", "DFT"}  # which the files do without


def lively(detector):
    """In evaluation mode; neurons fire, and scores are near one half."""
    with torch.no_grad():
        for norm in (m for m in detector.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.bias.fill_(0.6)
        for name, bias in detector.head.named_parameters():
            if name.endswith("bias") and bias.dim() == 1:
                bias.zero_()
    return detector.eval()


def agrees(detector, x, **kwargs) -> Agreement:
    """Written for x, checked on three other inputs."""
    graph, neurons = to_onnx(detector, x, **kwargs)
    assert not {n.op_type for n in graph.graph.node} & ABSENT and {n.domain for n in graph.graph.node} == {""}
    torch.manual_seed(1)
    axis = 1 if x.dim() == 5 else 0
    return check(graph, detector, neurons, torch.randint_like(x.repeat_interleave(3, axis), 0, 4) / 4)


def test_event_frames_of_any_number_and_their_logits():
    detector = lively(member("ems_resnet10_ee", in_channels=2))
    agrees(detector, torch.rand(2, 1, 2, 64, 96), raw=True)
    graph, _ = to_onnx(detector, torch.rand(2, 1, 2, 64, 96), raw=True)
    session = Session(graph)
    assert session.shape == [2, "images", 2, 64, 96] and session.outputs == ["logits_0", "logits_1"]
    with pytest.raises(UserError, match=r"takes inputs of \[2, 'images', 2, 64, 96\], got \[2, 1, 2, 32, 96\]"):
        session(torch.rand(2, 1, 2, 32, 96))


def test_binary_spikes_give_the_logits_of_integers():
    detector = lively(member("spikeyolo_n"))
    graph, neurons = to_onnx(to_binary(detector), torch.rand(1, 3, 64, 64))
    check(graph, detector, neurons, torch.rand(2, 3, 64, 64))  # against the integer network


class OneLayer(torch.nn.Module):
    """x [T, B, 3, H, W] -> a neuron's output [T, B, 4, H / 8, W / 8]."""

    channels, strides = (4,), (8,)

    def __init__(self, neuron):
        super().__init__()
        self.conv, self.neuron = torch.nn.Conv2d(3, 4, 8, 8), neuron

    def forward(self, x):
        return [self.neuron(over_time(self.conv, 4 * x))]


def one_layer(neuron, T=3) -> Detector:
    torch.manual_seed(0)
    return Detector(OneLayer(neuron), build_head("yolox", (4,), (8,), 2), DirectEncoder(T)).eval()


NEURONS = sorted(set(list_neurons()) - {"relu", "silu", "leaky_relu"})


@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron_spike_for_spike(name):
    """T = 3 steps, of membranes that pass thresholds of both signs."""
    detector = one_layer(build_neuron(name))
    graph, neurons = to_onnx(detector, torch.rand(1, 3, 32, 32))
    x = torch.randn(2, 3, 32, 32)
    seen = []
    detector.network.neuron.register_forward_hook(lambda layer, ins, out: seen.append(out))
    agreement = check(graph, detector, neurons, x)
    spikes = Session(graph, ["network.neuron/spikes"])(x)["network.neuron/spikes"]
    assert agreement.differing is None and torch.allclose(spikes, seen[0], atol=1e-5) and seen[0].unique().numel() > 1


def test_a_wrong_graph_is_refused_with_its_layer():
    detector = one_layer(build_neuron("lif"))
    graph, neurons = to_onnx(detector, torch.rand(1, 3, 32, 32))
    other = one_layer(build_neuron("lif", v_threshold=0.7))
    with pytest.raises(UserError, match=r"network.neuron: \d+ of its 384 outputs differ in onnxruntime"):
        check(graph, other, neurons, torch.randn(2, 3, 32, 32))
    with torch.no_grad():
        other.network.conv.weight.mul_(1.1)
    with pytest.raises(UserError, match=r"the input of network.neuron differs by"):
        check(graph, other, neurons, torch.randn(2, 3, 32, 32))


def test_spikes_at_the_threshold_are_told_apart_from_a_wrong_graph():
    """A threshold that differs by rounding moves one spike: outputs differ, no layer does."""
    detector, other = one_layer(build_neuron("lif")), one_layer(build_neuron("lif"))
    x = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        at = detector.network.conv(4 * x[0]).max()  # the largest membrane of the first step
        for model, factor in ((detector, 1 - 1e-6), (other, 1 + 1e-6)):
            model.network.neuron = build_neuron("lif", v_threshold=float(at) * factor)
    graph, neurons = to_onnx(detector, x)
    agreement = check(graph, other, neurons, x)
    assert agreement.differing is not None and 1 <= agreement.differing < 10 and agreement.given_spikes < 1e-5
    assert agreement.difference > 1e-3 and "Given equal spikes" in agreement.text()


def test_what_cannot_be_exported_is_named():
    class Random(StepNeuron):
        def step(self, v, x):
            return x + torch.rand_like(x), v

    class InPlace(StepNeuron):
        def step(self, v, x):
            return (2 * x).cumprod_(0), v

    class Sorted(StepNeuron):
        def step(self, v, x):
            return x.sort(1)[0], v

    for neuron, said in (
        (Random, "random numbers"),
        (InPlace, "cumprod_.*in place"),
        (Sorted, "sort.*no form in ONNX"),
    ):
        with pytest.raises(UserError, match=said):
            to_onnx(one_layer(neuron()), torch.rand(1, 3, 32, 32))
